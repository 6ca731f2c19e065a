# The gateway alone on Debian slim: not root, state in /var/lib/sumun.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# Named in Cargo.toml, so they must be there; they are not built.
COPY benches ./benches
RUN cargo build --release --locked && strip target/release/sumun

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/sumun --create-home sumun
COPY --from=build /src/target/release/sumun /usr/local/bin/sumun
COPY gateway.toml /etc/sumun/gateway.toml
WORKDIR /var/lib/sumun
USER sumun
ENV SUMUN_STATE_DIR=/var/lib/sumun
# 9090 is the admin door; it listens inside the container alone unless
# SUMUN_ADMIN_LISTEN says otherwise.
EXPOSE 8080 9090
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s CMD ["sumun", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sumun"]
CMD ["run", "--config", "/etc/sumun/gateway.toml"]
