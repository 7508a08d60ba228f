//! What goes in and what comes out, in short, for the story of a run.

use steadfast::engine::{Action, Input, Sight};
use steadfast::sense::By;

pub fn brief(input: &Input) -> String {
    match input {
        Input::Watch { file, .. } => format!("watch f{}", file.0),
        Input::Looked { file, sight: Sight::Present(s) } => format!(
            "look f{}: inode {} size {} mode {:o} mtime {:?} ctime {:?} +i {:?}",
            file.0, s.ino, s.size, s.mode, s.mtime, s.ctime, s.immutable
        ),
        Input::Observed(o) => {
            let who = match &o.by {
                By::Process { actor, .. } => format!("{}", actor.start_time),
                by => format!("{by:?}"),
            };
            let retired = if o.retired { " (retired)" } else { "" };
            format!("event f{}: {:?} by {who}{retired}", o.file.0, o.hint)
        }
        Input::Openers { file, openers, .. } => {
            let pids: Vec<_> = openers.iter().map(|opener| opener.actor.start_time).collect();
            format!("openers f{}: {pids:?}", file.0)
        }
        other => format!("{other:?}"),
    }
}

pub fn brief_action(action: &Action) -> String {
    match action {
        Action::Record(e) => format!(
            "record {:?} {:?} by {:?} {:?}",
            e.kind,
            e.incident,
            e.actor.as_ref().map(|a| a.start_time),
            e.attribution.confidence
        ),
        Action::Alert { incident, .. } => format!("alert {incident}"),
        other => format!("{other:?}"),
    }
}
