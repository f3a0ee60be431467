//! Takes a list of arguments apart, by a table of what a command takes.

use super::Wrong;
use crate::quantity::parse_duration;
use std::collections::VecDeque;
use std::time::Duration;

/// An option of a command.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    /// What its value is called in help; a flag has none.
    pub(super) value: Option<&'static str>,
    pub(super) about: &'static str,
}

impl Opt {
    pub(super) const fn flag(short: Option<char>, long: &'static str, about: &'static str) -> Opt {
        Opt { short, long, value: None, about }
    }

    pub(super) const fn value(
        short: Option<char>,
        long: &'static str,
        value: &'static str,
        about: &'static str,
    ) -> Opt {
        Opt { short, long, value: Some(value), about }
    }

    /// As help shows it: `-e, --env NAME=VALUE`.
    pub(super) fn shown(&self) -> String {
        let short = self.short.map_or("    ".into(), |short| format!("-{short}, "));
        let value = self.value.map_or(String::new(), |value| format!(" {value}"));
        format!("{short}--{}{value}", self.long)
    }
}

/// A command's arguments, taken apart.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    positionals: VecDeque<String>,
    options: Vec<(&'static str, String)>,
    /// Help was asked for.
    pub(super) help: bool,
}

impl Arguments {
    /// Takes arguments apart. All that follows the first `own` positional ones belongs to a program, if `own` says how
    /// many the command has itself; all that follows `--` is no option.
    pub(super) fn parse(given: &[String], options: &[Opt], own: Option<usize>) -> Result<Arguments, Wrong> {
        let mut parsed = Arguments::default();
        let mut given = given.iter();
        while let Some(argument) = given.next() {
            let known = || options.iter().map(|o| format!("--{}", o.long)).collect::<Vec<_>>().join(", ");
            let unknown = |shown: &str| {
                let hint = if options.is_empty() {
                    "it has no options".to_owned()
                } else {
                    format!("its options are {}", known())
                };
                Wrong::new(format!("there is no option `{shown}`")).hint(hint)
            };
            if argument == "--" {
                parsed.positionals.extend(given.by_ref().cloned());
            } else if argument == "--help" || argument == "-h" {
                parsed.help = true;
            } else if let Some(long) = argument.strip_prefix("--") {
                let (name, inline) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                let option = options.iter().find(|o| o.long == name);
                let option = option.ok_or_else(|| unknown(&format!("--{name}")))?;
                parsed.add(option, inline, &mut given)?;
            } else if let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                let mut rest = letters;
                while let Some(letter) = rest.chars().next() {
                    rest = &rest[letter.len_utf8()..];
                    let option = options.iter().find(|o| o.short == Some(letter));
                    let option = option.ok_or_else(|| unknown(&format!("-{letter}")))?;
                    let inline = option.value.is_some().then(|| std::mem::take(&mut rest));
                    let inline = inline.map(|text| text.strip_prefix('=').unwrap_or(text));
                    parsed.add(option, inline.filter(|text| !text.is_empty()), &mut given)?;
                }
            } else {
                parsed.positionals.push_back(argument.clone());
                if own.is_some_and(|own| parsed.positionals.len() > own) {
                    parsed.positionals.extend(given.by_ref().cloned());
                }
            }
        }
        Ok(parsed)
    }

    fn add<'a>(
        &mut self,
        option: &Opt,
        inline: Option<&str>,
        given: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), Wrong> {
        let value = match (option.value, inline) {
            (None, None) => String::new(),
            (None, Some(_)) => {
                return Err(Wrong::new(format!("the option `--{}` takes no value", option.long)));
            }
            (Some(_), Some(text)) => text.to_owned(),
            (Some(value), None) => {
                let missing = || Wrong::new(format!("the option `--{}` needs a value: {value}", option.long));
                given.next().cloned().ok_or_else(missing)?
            }
        };
        self.options.push((option.long, value));
        Ok(())
    }

    /// The next positional argument; `name` is what usage calls it.
    pub(super) fn next(&mut self, name: &str) -> Result<String, Wrong> {
        self.positionals.pop_front().ok_or_else(|| Wrong::new(format!("{name} is missing")))
    }

    /// All positional arguments that are left.
    pub(super) fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.positionals).into()
    }

    /// Nothing may be left.
    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        match self.positionals.pop_front() {
            None => Ok(()),
            Some(more) => Err(Wrong::new(format!("`{more}` is one argument too many"))),
        }
    }

    pub(super) fn flag(&self, long: &'static str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// The values of an option that may be repeated.
    pub(super) fn all(&self, long: &'static str) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// The value of an option that may stand once.
    pub(super) fn one(&self, long: &'static str) -> Result<Option<&str>, Wrong> {
        let mut values = self.all(long);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Wrong::new(format!("the option `--{long}` may stand only once"))),
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&self, long: &'static str) -> Result<Option<T>, Wrong> {
        self.one(long)?.map(|text| number(text, &format!("the value of `--{long}`"))).transpose()
    }

    pub(super) fn duration(&self, long: &'static str) -> Result<Option<Duration>, Wrong> {
        let parse = |text: &str| {
            parse_duration(text)
                .map_err(|why| Wrong::new(format!("`{text}` is no value of `--{long}`")).hint(why))
        };
        self.one(long)?.map(parse).transpose()
    }
}

/// A number in an argument that `what` names.
pub(super) fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Wrong> {
    text.parse().map_err(|_| Wrong::new(format!("`{text}` is not a number that can be {what}")))
}
