//! What visitors carry: cookies, headers, and the tokens in them.

mod cookies;
mod tokens;
