//! From a call that audit records to what was done to which of our files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Told;
use super::super::act::{acts, doer};
use super::super::call::{Call, Name};
use super::Listener;
use crate::attribute::{Act, Actor, Deed, InodeKey, Touched};
use crate::judge::FileTime;
use crate::sense::FileId;
use crate::sys::audit::SIGNAL;
use crate::sys::clock;

/// Whoever changes flags so soon after it opened a file changed those of that file.
const JUST: Duration = Duration::from_millis(500);
/// For so long a process that put something into a directory is not noted again.
const FILLS: Duration = Duration::from_millis(100);
const A_SECOND: Duration = Duration::from_secs(1);
/// So many processes that changed flags of files which may not be ours are looked at a second.
const MOST_STRANGERS: usize = 50;

impl Listener {
    pub(super) fn hear(&mut self, call: &Call, now: Instant) {
        if call.pid == self.us {
            let is_signal = call.arguments[1] == u64::from(SIGNAL);
            let number = call.arguments[2];
            if is_signal {
                self.caught_up(number, call.serial);
            }
            return;
        }
        let acts = acts(call);
        if acts.is_empty() {
            return;
        }

        let found = self.concerning_us(call, acts);
        if found.is_empty() {
            return;
        }
        let actor = self.actor(call, found.iter().any(|(.., told)| *told));
        let mut looks = Vec::new();
        for (act, of, told) in found {
            let (of, just, inherited) = match told {
                true => (of, Vec::new(), Vec::new()),
                false => self.opened_by(&actor, call.time),
            };
            match told {
                // Another sensor tells of mounts, and of what is new in a directory.
                true if matches!(act, Act::OpenedForWriting | Act::Covered | Act::Filled) => {}
                true => looks.extend(of.iter().map(|touched| touched.file)),
                false => self.look_where_opened(&of, &inherited, &mut looks),
            }
            if act == Act::Filled && self.is_filling(&actor, &of, now) {
                continue;
            }
            let (actor, began, ended) = (Arc::clone(&actor), call.time, clock::wall());
            let of = if told { of.into() } else { self.opened.keep(of) };
            let [just, inherited] = [just, inherited].map(|list| self.opened.keep(list));
            let deed = Deed { act, told, of, just, inherited, actor, began, over: now, ended };
            self.shared.deeds.add(deed);
        }
        self.call_for(looks);
    }

    /// Whether it is known that this process fills this directory just now. Whoever makes
    /// thousands of files there is not to push everything else out of memory.
    fn is_filling(&mut self, actor: &Arc<Actor>, of: &[Touched], now: Instant) -> bool {
        let known = self.filling.as_ref().is_some_and(|(who, where_, at)| {
            Arc::ptr_eq(who, actor) && where_ == of && now.saturating_duration_since(*at) < FILLS
        });
        if !known {
            self.filling = Some((Arc::clone(actor), of.to_vec(), now));
        }
        known
    }

    /// Has these files looked at.
    fn call_for(&self, looks: Vec<FileId>) {
        let is_news = {
            let waiting = &mut self.shared.state().looks;
            let all_taken = waiting.is_empty();
            waiting.extend(looks);
            all_taken && !waiting.is_empty()
        };
        if is_news {
            (self.tell)(Told::Look);
        }
    }

    /// Those of the acts that were, or may have been, done to files of ours: to which, and
    /// whether the call itself tells that.
    fn concerning_us(
        &self,
        call: &Call,
        acts: Vec<(Act, Option<&Name>)>,
    ) -> Vec<(Act, Vec<Touched>, bool)> {
        let mut state = self.shared.state();
        let mut found = Vec::new();
        let mut removed = None;
        for (act, name) in acts {
            let Some(name) = name else {
                found.push((act, Vec::new(), false));
                continue;
            };
            let of_name = matches!(act, Act::Removed | Act::Moved | Act::Replaced);
            let inode = name.inode.as_ref();
            let text = name.name.as_deref();
            let mut of = match (act, inode) {
                (Act::Covered, Some(inode)) => state.inodes.covered(inode, call.time, text),
                (_, Some(inode)) => state.inodes.called(inode, call.time, text),
                (_, None) => Vec::new(),
            };
            of.retain(|touched| !of_name || state.inodes.is_called(touched.file, text));
            if !of.is_empty() {
                if matches!(act, Act::Removed | Act::Replaced) {
                    removed = name.inode;
                }
                found.push((act, of, true));
            }
        }
        if let Some(number) = removed {
            state.inodes.removed(&number, call.time);
        }
        found
    }

    /// Which of our files this process had opened when its call began, which of them only just
    /// before, and which its parents had.
    fn opened_by(
        &self,
        actor: &Actor,
        began: FileTime,
    ) -> (Vec<Touched>, Vec<Touched>, Vec<Touched>) {
        let (own, above) = self.captures.opened_by(actor, began);
        let ago = clock::since(began);
        let just = |(_, at): &&(InodeKey, Instant)| at.elapsed().saturating_sub(ago) < JUST;
        let just: Vec<_> = own.iter().filter(just).copied().collect();
        let state = self.shared.state();
        let touched = |opens: Vec<(InodeKey, Instant)>| -> Vec<Touched> {
            let opens = opens.into_iter();
            opens.flat_map(|(key, at)| state.inodes.opened(key, at)).collect()
        };
        (touched(own), touched(just), touched(above))
    }

    /// Flags were changed through a descriptor: of which file, only who opened it tells.
    fn look_where_opened(
        &mut self,
        opened: &[Touched],
        inherited: &[Touched],
        looks: &mut Vec<FileId>,
    ) {
        let before = looks.len();
        looks.extend(opened.iter().chain(inherited).map(|touched| touched.file));
        self.pending_everywhere |= looks.len() == before;
    }

    /// The process. One that opened nothing, and whose call tells no file of ours, is most
    /// likely busy with files of its own: looking at it takes longer than it lives.
    fn actor(&mut self, call: &Call, ours: bool) -> Arc<Actor> {
        let doer = doer(call);
        if let Some((last, actor)) = &self.last_actor
            && last.pid == doer.pid
            && last.exe == doer.exe
            && clock::between(last.began, doer.began) < self.round
            && (!ours || actor.start_time != 0)
        {
            return Arc::clone(actor);
        }
        let actor = match self.captures.of_record(&doer) {
            Some(actor) => actor,
            None if ours || !self.is_noisy() => self.captures.by_record(&doer),
            None => Arc::new(doer.brief()),
        };
        self.last_actor = Some((doer, Arc::clone(&actor)));
        actor
    }

    /// Whether so many strangers change flags that there is no time to look at each.
    fn is_noisy(&mut self) -> bool {
        let now = Instant::now();
        self.strangers.retain(|at| now.saturating_duration_since(*at) < A_SECOND);
        self.strangers.push_back(now);
        if self.strangers.len() <= MOST_STRANGERS {
            return false;
        }
        self.strangers.pop_front();
        true
    }
}
