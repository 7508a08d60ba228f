//! x
mod replace;
pub use replace::{Hands, Way, replace};
