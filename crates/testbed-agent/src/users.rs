//! Users and groups of a machine or an image, as its own files have them (passwd(5), group(5)). The C library's look-up
//! would load code from its root.

use crate::fault::{Fault, FaultKind};

/// A user to run as, or to own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, or the number where it has none.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the main group, or of the one that was asked for.
    pub gid: u32,
    /// The numbers of other groups, 64 at most; none if a group was asked for.
    pub groups: Vec<u32>,
    /// The home folder.
    pub home: String,
}

impl User {
    /// Root, when nothing says more about it.
    fn root() -> User {
        User { name: "root".into(), uid: 0, gid: 0, groups: Vec::new(), home: "/root".into() }
    }

    /// Finds `name`, `name:group`, or numbers of this process's own root; root if nobody is asked for.
    ///
    /// # Errors
    /// As for [`User::find_in`].
    pub fn find(wanted: Option<&str>) -> Result<User, Fault> {
        let Some(wanted) = wanted else { return Ok(User::root()) };
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        User::find_in(wanted, &read("/etc/passwd"), &read("/etc/group"))
    }

    /// Finds `name`, `name:group`, or numbers in the text of these files. Numbers need not be there.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] with the file that does not have the name.
    pub fn find_in(wanted: &str, passwd: &str, group: &str) -> Result<User, Fault> {
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
        let www = User::find_in("www-data", PASSWD, GROUP).unwrap();
        assert_eq!((www.uid, www.gid, www.groups.as_slice()), (33, 33, &[4][..]));
        assert_eq!(User::find_in("33", PASSWD, GROUP).unwrap(), www);
        assert_eq!(User::find_in("www-data:nogroup", PASSWD, GROUP).unwrap().gid, 65534);
        assert_eq!(User::find_in("1234:5", PASSWD, GROUP).unwrap().gid, 5);
        assert_eq!(User::find_in("0", "", "").unwrap(), User::root());
        let missing = User::find_in("nobody-here", PASSWD, GROUP).unwrap_err();
        assert!(missing.operation.contains("nobody-here"), "{missing}");
        assert_eq!(missing.path.as_deref(), Some("/etc/passwd"));
        let missing = User::find_in("root:nogroup-here", PASSWD, GROUP).unwrap_err();
        assert_eq!(missing.path.as_deref(), Some("/etc/group"));
    }

    #[test]
    fn owners_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:34::/var/www:/bin/sh\n";
        let groups = "root:x:0:\nadm:x:4:\n";
        let find = |owner| User::find_in(owner, passwd, groups).ok().map(|user| (user.uid, user.gid));
        assert_eq!(find("www-data"), Some((33, 34)));
        assert_eq!(find("33"), Some((33, 34)));
        assert_eq!(find("www-data:adm"), Some((33, 4)));
        assert_eq!(find("7:8"), Some((7, 8)));
        assert_eq!(find("7"), Some((7, 7)));
        assert_eq!(find("nobody-here"), None);
        assert_eq!(find("root:nobody-here"), None);
    }
}
