//! Users and groups of the machine, read from its own files (passwd(5), group(5)). The C library's look-up would load
//! code from the machine's root into process 1.

use testbed_agent::{Fault, FaultKind};

/// A user to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl User {
    /// Root, when nothing says more about it.
    fn root() -> User {
        User { name: "root".into(), uid: 0, gid: 0, groups: Vec::new(), home: "/root".into() }
    }

    /// Finds `name`, `name:group`, or numbers; root if nobody is asked for.
    pub(super) fn find(wanted: Option<&str>) -> Result<User, Fault> {
        let Some(wanted) = wanted else { return Ok(User::root()) };
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        find(wanted, &read("/etc/passwd"), &read("/etc/group"))
    }
}

fn find(wanted: &str, passwd: &str, group: &str) -> Result<User, Fault> {
    let (name, group_name) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let number = name.parse::<u32>().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[n, _, uid, gid, _, home, ..] = &fields[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (n == name || number == Some(uid)).then(|| (n.to_owned(), uid, gid, home.to_owned()))
    });
    let mut user = match (entry, number) {
        (Some((name, uid, gid, home)), _) => User { name, uid, gid, groups: Vec::new(), home },
        (None, Some(0)) => User::root(),
        (None, Some(uid)) => {
            User { name: uid.to_string(), uid, gid: uid, groups: Vec::new(), home: "/".into() }
        }
        (None, None) => return Err(unknown("user", name)),
    };
    let groups = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[n, _, gid, members, ..] = &fields[..] else { return None };
        Some((n, gid.parse::<u32>().ok()?, members))
    });
    let mut wanted_gid = group_name.and_then(|g| g.parse().ok());
    for (name, gid, members) in groups {
        if group_name == Some(name) {
            wanted_gid = Some(gid);
        }
        if group_name.is_none() && members.split(',').any(|m| m == user.name) {
            user.groups.push(gid);
        }
    }
    match (group_name, wanted_gid) {
        (Some(_), Some(gid)) => user.gid = gid,
        (Some(name), None) => return Err(unknown("group", name)),
        (None, _) => {}
    }
    user.groups.truncate(64);
    Ok(user)
}

fn unknown(what: &str, name: &str) -> Fault {
    let file = if what == "user" { "/etc/passwd" } else { "/etc/group" };
    Fault::new(FaultKind::NotFound, format!("no {what} `{name}` in the machine"))
        .at(file)
        .hint(format!("the machine's {file} has no such {what}: take another image, or add it there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www:/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:www-data,x\nnogroup:x:65534:\n";

    #[test]
    fn finds_names_numbers_and_groups() {
        let www = find("www-data", PASSWD, GROUP).unwrap();
        assert_eq!((www.uid, www.gid, www.groups.as_slice()), (33, 33, &[4][..]));
        assert_eq!(find("33", PASSWD, GROUP).unwrap(), www);
        assert_eq!(find("www-data:nogroup", PASSWD, GROUP).unwrap().gid, 65534);
        assert_eq!(find("1234:5", PASSWD, GROUP).unwrap().gid, 5);
        assert_eq!(find("0", "", "").unwrap(), User::root());
        let missing = find("nobody-here", PASSWD, GROUP).unwrap_err();
        assert!(missing.operation.contains("nobody-here"), "{missing}");
        assert_eq!(missing.path.as_deref(), Some("/etc/passwd"));
        let missing = find("root:nogroup-here", PASSWD, GROUP).unwrap_err();
        assert_eq!(missing.path.as_deref(), Some("/etc/group"));
    }
}
