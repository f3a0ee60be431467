//! Names: what is legal, what is near, what matches.

/// Whether this is a host label (RFC 1123 §2.1), in lower case: letters, digits and inner hyphens, at most 63 bytes.
pub(super) fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether this can be the name of an image: letters, digits, `.`, `_` and `-`, the first a letter or digit.
pub(crate) fn is_image_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(legal)
}

/// The host label nearest to a text, if anything of it can stay.
pub(super) fn to_label(text: &str) -> Option<String> {
    let mut label = String::new();
    for character in text.chars() {
        match character.to_ascii_lowercase() {
            kept @ ('a'..='z' | '0'..='9') => label.push(kept),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(63);
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// The candidate that was probably meant by `text`: at most a third of its letters differ.
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer text is no slip of the pen, and the distance is quadratic.
    if text.len() > 64 {
        return None;
    }
    let allowed = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = (above[j + 1] + 1).min(row[j] + 1).min(above[j] + usize::from(x != y));
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Whether `pattern`, in which `*` stands for any text, is all of `text`.
pub(super) fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` yields at least one part.
    let Some(mut rest) = parts.next().and_then(|head| text.strip_prefix(head)) else { return false };
    let Some(tail) = pattern.rsplit_once('*').map(|(_, tail)| tail) else { return rest.is_empty() };
    let Some(middle) = rest.strip_suffix(tail) else { return false };
    rest = middle;
    let inner: Vec<&str> = parts.collect();
    for part in inner.iter().take(inner.len().saturating_sub(1)) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_slip_of_the_pen_away() {
        let keys = ["interfaces", "image", "env", "files", "on"];
        assert_eq!(nearest("interface", keys), Some("interfaces"));
        assert_eq!(nearest("imgae", keys), Some("image"));
        assert_eq!(nearest("Env", keys), Some("env"));
        assert_eq!(nearest("password", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    #[test]
    fn labels_are_made_of_folder_names() {
        assert_eq!(to_label("My Project_2/").as_deref(), Some("my-project-2"));
        assert_eq!(to_label("äöü"), None);
        assert!(
            is_label("a-1")
                && !is_label("-a")
                && !is_label("A")
                && !is_label("")
                && !is_label(&"a".repeat(64))
        );
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("tester-*", "tester-1", true),
            ("tester-*", "tester", false),
            ("*", "", true),
            ("*-1", "a-1", true),
            ("a*a", "a", false),
            ("a*b*c", "a-x-b-y-c", true),
            ("a*b*c", "a-x-c", false),
            ("gw", "gw1", false),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
    }
}
