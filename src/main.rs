//! The command line: arguments, logging, run, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sumun::config::{self, Config, Faults};
use sumun::demo::{self, DemoError, Summary};
use sumun::operator::top::{self, TopArguments};
use sumun::operator::{self, Order};
use sumun::run::reload::Watch;
use sumun::run::{self, RunError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A crowd's connections come at once and rest for long: what they no longer need goes
/// back to the machine by itself, which the system's allocator does not do.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A virtual waiting room in front of an existing site.
#[derive(Parser)]
#[command(
    name = "sumun",
    version,
    about,
    // Options of `run` before another command would be without effect.
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Run(RunArguments),
    /// Show it all in one process: a frail shop, the gateway, and a crowd
    Demo(DemoArguments),
    /// Report all faults of the configuration at once; exit code 1 if any
    Check(CheckArguments),
    /// Print a fresh signing key, as configuration lines
    Key,
    /// Exit code 0 when the gateway is ready (for Docker)
    Health(HealthArguments),
    /// How things stand, second by second, on a whole terminal; q ends
    Top(TopArguments),
    #[command(flatten)]
    Order(Order),
}

#[derive(Args, Clone)]
struct RunArguments {
    /// The configuration file; ./gateway.toml, else /etc/sumun/gateway.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where requests go; needs no file, measures, queues nobody
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    origin: Option<String>,
    /// The public address; with --origin
    #[arg(long, value_name = "ADDRESS:PORT", requires = "origin")]
    listen: Option<String>,
    /// Most sessions inside at once; with --origin
    #[arg(long, value_name = "COUNT", requires = "origin")]
    limit: Option<u64>,
    /// How log lines look, whatever the file says
    #[arg(long, value_parser = ["human", "json"])]
    log: Option<String>,
}

#[derive(Args)]
struct DemoArguments {
    /// How many visitors come
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(i64::from(*demo::VISITORS.start())..=i64::from(*demo::VISITORS.end())))]
    visitors: u32,
    /// How long they keep coming
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(demo::SECONDS))]
    seconds: u64,
    /// The public port; 8080 if it is free, else any
    #[arg(long)]
    port: Option<u16>,
}

#[derive(Args)]
struct CheckArguments {
    /// The configuration file; ./gateway.toml, else /etc/sumun/gateway.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective settings, secrets hidden
    #[arg(long)]
    print: bool,
}

#[derive(Args)]
struct HealthArguments {
    /// The admin address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9090")]
    admin: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => serve(&arguments.run),
        Some(Command::Run(run)) => serve(&run),
        Some(Command::Demo(demo)) => show_demo(&demo),
        Some(Command::Check(check)) => check_file(&check),
        Some(Command::Key) => print_key(),
        Some(Command::Health(health)) => ask_health(&health.admin),
        Some(Command::Top(wanted)) => show_top(&wanted),
        Some(Command::Order(order)) => give(&order),
    }
}

/// The file named, or the first of the usual places that is there.
fn file(named: Option<&Path>) -> Result<PathBuf, ExitCode> {
    config::found(named).ok_or_else(|| {
        tell(&format!(
            "no configuration: there is neither {}; name a file by --config, \
             or try `sumun --origin http://127.0.0.1:3000`",
            config::FILES.join(" nor ")
        ))
    })
}

#[expect(
    clippy::print_stderr,
    reason = "faults go to the person at the terminal"
)]
fn tell_faults(file: &Path, faults: &Faults) -> ExitCode {
    let many = if faults.len() == 1 { "" } else { "s" };
    eprintln!("{}: {} fault{many}", file.display(), faults.len());
    for fault in faults {
        eprintln!("  {fault}");
    }
    ExitCode::FAILURE
}

#[expect(
    clippy::print_stderr,
    reason = "faults go to the person at the terminal"
)]
fn tell(what: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("sumun: {what}");
    ExitCode::FAILURE
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what was asked for"
)]
fn check_file(check: &CheckArguments) -> ExitCode {
    let file = match file(check.config.as_deref()) {
        Ok(file) => file,
        Err(code) => return code,
    };
    match Config::load(&file, config::variables()) {
        Ok(config) => {
            for warning in config.warnings() {
                eprintln!("{}: warning: {warning}", file.display());
            }
            if check.print {
                println!("{}", config.print_effective());
            } else {
                println!("{}: no faults", file.display());
            }
            ExitCode::SUCCESS
        }
        Err(faults) => tell_faults(&file, &faults),
    }
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn print_key() -> ExitCode {
    let secret = run::fresh_secret();
    let id = format!("{:08x}", rand::random::<u32>());
    println!("[signing]\nkeys = [{{ id = \"{id}\", secret = \"{secret}\" }}]");
    ExitCode::SUCCESS
}

/// Asks the admin door whether the gateway is ready.
fn ask_health(admin: &str) -> ExitCode {
    use std::io::{Error, ErrorKind, Read, Write};
    use std::net::{TcpStream, ToSocketAddrs};
    let limit = Duration::from_secs(3);
    let connected = admin.to_socket_addrs().and_then(|addresses| {
        let mut last = Error::from(ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => return Ok(stream),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    });
    let asked = connected.and_then(|mut stream| {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        write!(stream, "GET /readyz HTTP/1.0\r\nHost: {admin}\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head)
    });
    match asked {
        Ok(head) if head.ends_with(b" 200") => ExitCode::SUCCESS,
        Ok(_) => tell(&"not ready"),
        Err(fault) => tell(&format!("no answer from {admin}: {fault}")),
    }
}

/// Gives an order to the gateway that runs, or asks it how things stand.
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn give(order: &Order) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let said = match runtime {
        Ok(runtime) => runtime.block_on(operator::give(order)),
        Err(fault) => return tell(&fault),
    };
    match said {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(trouble) => tell(&trouble),
    }
}

/// Shows how things stand until its end is wanted.
fn show_top(wanted: &TopArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = match runtime {
        Ok(runtime) => runtime.block_on(top::show(wanted)),
        Err(fault) => return tell(&fault),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => tell(&trouble),
    }
}

fn serve(arguments: &RunArguments) -> ExitCode {
    let (config, file) = if let Some(origin) = &arguments.origin {
        let listen = arguments.listen.as_deref();
        let config = Config::from_origin_only(origin, listen, arguments.limit, config::variables());
        match config {
            Ok(config) => (config, None),
            Err(faults) => return tell_faults(Path::new("arguments"), &faults),
        }
    } else {
        let path = match file(arguments.config.as_deref()) {
            Ok(path) => path,
            Err(code) => return code,
        };
        let parsed = config::text(&path)
            .and_then(|text| Ok((Config::parse(&text, config::variables())?, text)));
        match parsed {
            Ok((config, text)) => (config, Some((path, text))),
            Err(faults) => return tell_faults(&path, &faults),
        }
    };
    run::log::start(&config.log, arguments.log.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("sumun-control")
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(gateway(config, file)),
        Err(fault) => return tell(&fault),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => tell(&fault),
    }
}

/// The log stays silent: the terminal belongs to the picture.
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn show_demo(arguments: &DemoArguments) -> ExitCode {
    let options = demo::Options {
        visitors: arguments.visitors,
        wave: Duration::from_secs(arguments.seconds),
        port: arguments.port,
        show: demo::Show::here(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("sumun-demo")
        .enable_all()
        .build();
    let shown: Result<Summary, DemoError> = match runtime {
        Ok(runtime) => runtime.block_on(demo::run(options, stop())),
        Err(fault) => return tell(&fault),
    };
    match shown {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(fault) => tell(&fault),
    }
}

/// Runs the gateway; of a file with the text that its configuration was parsed from.
async fn gateway(config: Config, file: Option<(PathBuf, String)>) -> Result<(), RunError> {
    let (reload, reloads) = mpsc::channel(1);
    // Before it is waited for another process, which may take minutes.
    let watch = file.map(|(path, text)| Watch::begin(path, text));
    let watching = watch.map(|watch| tokio::spawn(watch.run(reload)));
    let listeners = run::take_over(&config).await?;
    tokio::spawn(hasten());
    let ran = run::run(config, listeners, reloads, stop(), |_| ()).await;
    if let Some(watching) = watching {
        watching.abort();
    }
    ran
}

/// Resolves at SIGTERM or SIGINT.
async fn stop() {
    let asked = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = asked(SignalKind::terminate()) => {}
        () = asked(SignalKind::interrupt()) => {}
    }
}

/// Whoever presses Ctrl-C again does not want to wait for the drain. (Only
/// that: a supervisor may well send SIGTERM twice.)
async fn hasten() {
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else {
        return;
    };
    interrupt.recv().await;
    interrupt.recv().await;
    tracing::warn!("stopped without waiting for what runs");
    std::process::exit(130);
}
