//! What is under way for a file, or left from it: there may be many files, and nothing ever
//! happens to nearly all. So it is apart, and gone as soon as it says nothing.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::Sight;
use super::failing::Failing;
use super::guarded::Guarded;
use super::history::History;
use super::incident::Incident;
use super::left::Left;
use super::seen::Seen;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// Cures in a row that left open whether they worked.
    pub(super) fruitless: u32,
    /// The hands found another inode at the path than the one they were to put right.
    pub(super) disowned: bool,
    /// What is found may be from before this run, of which events tell: all of them, or not.
    pub(super) recalled: Option<bool>,
    /// When steadfast first heard of what it is looking into.
    pub(super) learned: Option<Duration>,
    pub(super) suspects: Vec<Seen>,
    /// The round that the last exchange ended.
    pub(super) exchanged: Option<u32>,
    /// What was taken out of the path has to come back, because another mount shows it.
    pub(super) shown: bool,
    /// An event told that it was renamed.
    pub(super) renamed: bool,
    /// Something was noticed meanwhile.
    pub(super) again: bool,
    pub(super) verifying: Option<u32>,
    pub(super) incident: Option<Box<Incident>>,
    pub(super) failing: Option<Box<Failing>>,
    /// A state that differs, was reported, and is left as it is.
    pub(super) tolerated: Option<Box<Sight>>,
    /// The content of that state is still to be read, to be told.
    pub(super) unread_but_tolerated: bool,
    /// It is not whole, and is left like that.
    pub(super) left: Option<Box<Left>>,
    pub(super) history: Option<Box<History>>,
}

/// Nothing.
static CALM: UnderWay = UnderWay {
    fruitless: 0,
    disowned: false,
    recalled: None,
    learned: None,
    suspects: Vec::new(),
    exchanged: None,
    shown: false,
    renamed: false,
    again: false,
    verifying: None,
    incident: None,
    failing: None,
    tolerated: None,
    unread_but_tolerated: false,
    left: None,
    history: None,
};

impl UnderWay {
    /// Whether it says no more than [`CALM`].
    fn is_calm(&self) -> bool {
        let Self { fruitless, disowned, recalled, learned, suspects, exchanged, .. } = self;
        let Self { shown, again, verifying, incident, failing, tolerated, .. } = self;
        let Self { renamed, unread_but_tolerated, left, history, .. } = self;
        let noticed = *renamed || *again || *unread_but_tolerated;
        let any = *fruitless > 0 || *disowned || *shown || noticed;
        let of_now = recalled.is_some() || learned.is_some() || verifying.is_some();
        let boxed =
            incident.is_some() || failing.is_some() || tolerated.is_some() || left.is_some();
        let before = exchanged.is_some() || history.is_some() || !suspects.is_empty();
        !(any || of_now || boxed || before)
    }
}

impl Deref for Guarded {
    type Target = UnderWay;

    fn deref(&self) -> &UnderWay {
        self.under_way.as_deref().unwrap_or(&CALM)
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut UnderWay {
        self.under_way.get_or_insert_default()
    }
}

impl Guarded {
    /// Keeps nothing of what is over.
    pub(super) fn calm_down(&mut self) {
        self.under_way.take_if(|under_way| under_way.is_calm());
    }
}
