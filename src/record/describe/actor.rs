//! A process, as a person is told of it.

use crate::attribute::Actor;
use crate::text::escape;

/// A process for a person: its name, and where it comes from.
///
/// The executable is spelt out unless it is the program of that name in a system directory:
/// a process chooses its own name, and `/tmp/bash` is not bash.
#[must_use]
pub fn describe_actor(actor: &Actor) -> String {
    let mut facts = Vec::new();
    if let Some(exe) = &actor.exe
        && !is_system_program(exe, &actor.comm)
    {
        facts.push(exe.clone());
    }
    facts.push(format!("pid {}", actor.pid));
    facts.push(actor.user.clone().unwrap_or_else(|| format!("uid {}", actor.uid)));
    match (&actor.login_user, actor.login_uid) {
        (Some(login), _) if Some(login) != actor.user.as_ref() => {
            facts.push(format!("login {login}"));
        }
        (None, Some(uid)) if uid != actor.uid => facts.push(format!("login uid {uid}")),
        _ => {}
    }
    match (&actor.unit, &actor.user_unit) {
        (Some(manager), Some(own)) => facts.push(format!("unit {own} of {manager}")),
        (Some(unit), None) => facts.push(format!("unit {unit}")),
        _ => {}
    }
    if let Some(container) = &actor.container {
        let short: String = container.chars().take(12).collect();
        facts.push(match &actor.container_name {
            Some(name) => format!("container {name}, {short}"),
            None => format!("container {short}"),
        });
    }
    let name = if actor.comm.is_empty() { "a process" } else { &actor.comm };
    escape(format!("{name} ({})", facts.join(", ")).as_bytes())
}

fn is_system_program(exe: &str, comm: &str) -> bool {
    ["/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"]
        .iter()
        .any(|directory| exe.strip_prefix(directory) == Some(comm))
}
