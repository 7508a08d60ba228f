//! Observations to processes: who did it, where that is known from, and how sure it is.

mod actor;
mod captures;
pub mod cgroup;
mod circle;
pub mod containers;
mod deeds;
mod doer;
pub mod held;
mod lineage;
mod opened;
pub mod procfs;
mod suspects;
mod testimony;
pub mod units;
pub mod users;

pub use actor::{Actor, Ancestor, Attribution, Confidence, Source};
pub use captures::{Captures, InodeKey, Open};
pub use circle::fastest_round;
pub use deeds::{Act, Deed, Deeds, Touched};
pub use doer::Doer;
#[cfg(fuzzing)]
pub use lineage::fuzz;
pub use lineage::{Lineage, Pace};
pub use opened::{Opened, Search, Shelf};
pub use suspects::{Evidence, Named, Suspect, name_culprit};
pub use testimony::{HELD, LATE, Nature, SLACK, Testimony, Window, Witnessed};
