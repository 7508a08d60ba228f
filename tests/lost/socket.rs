//! The netlink sockets of a daemon, as the kernel tells of them.

use std::fs;

/// One that a process listens with.
#[derive(Debug)]
pub struct Socket {
    /// What waits in it, as memory.
    pub waiting: u64,
    /// Messages that found no room.
    pub dropped: u64,
}

/// The sockets of this protocol that this process has open, those that listen to a group.
pub fn listening(pid: u32, protocol: i32) -> Vec<Socket> {
    let own: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()?.into_os_string().into_string().ok())
        .collect();
    let table = fs::read_to_string("/proc/net/netlink").unwrap();
    let socket = |line: &str| {
        // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = words[1] == protocol.to_string() && words[3] != "00000000";
        let is_own = own.contains(&format!("socket:[{}]", words[9]));
        let number = |at: usize| words[at].parse().unwrap();
        (listens && is_own).then(|| Socket { waiting: number(4), dropped: number(8) })
    };
    table.lines().skip(1).filter_map(socket).collect()
}
