use super::section::Section;
use super::{Checker, graph, overlaid};
use crate::spec::files::FileKind;
use crate::spec::model::{Base, DiskFormat, Image, Step};
use crate::spec::name::{is_image_name, nearest};
use crate::spec::problem::{Place, Problem, ProblemKind, listed, quoted};
use std::collections::HashMap;

/// What the image of machines is called whose disk is empty. No image of a file can have this name.
const BLANK: &str = "(empty disk)";

/// What names of tar files end with.
pub(crate) const TAR_SUFFIXES: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst"];

/// How a file of this name holds a disk, if it does.
fn disk_format(name: &str) -> Option<DiskFormat> {
    let is_raw = [".raw", ".img"].iter().any(|suffix| name.ends_with(suffix));
    if name.ends_with(".qcow2") { Some(DiskFormat::Qcow2) } else { is_raw.then_some(DiskFormat::Raw) }
}

/// The images of a testbed while machines may still add to them.
pub(super) struct Images<'a> {
    /// The declared ones.
    declared: Vec<(Image, &'a Place)>,
    /// Where the base of each is written.
    base_places: Vec<Place>,
    numbers: HashMap<&'a str, usize>,
    /// Those that machines name directly: a base alone.
    direct: Vec<Image>,
}

impl Checker<'_> {
    pub(super) fn images<'a>(&mut self, root: &Section<'a>) -> Images<'a> {
        let mut images = Images {
            declared: Vec::new(),
            base_places: Vec::new(),
            numbers: HashMap::new(),
            direct: Vec::new(),
        };
        let Some(table) = root.get("images") else { return images };
        for (number, entry) in table.entries().iter().enumerate() {
            images.numbers.insert(&entry.key, number);
        }
        for entry in table.entries() {
            self.image_name(&entry.key, &entry.at);
            let section = root.item("images", &entry.value);
            let image = Image {
                name: entry.key.clone(),
                base: section
                    .text("base")
                    .and_then(|(text, place)| self.base(text, place, &images))
                    .unwrap_or(Base::Host),
                steps: self.steps(&section),
                env: self.env(&section.entries("env")),
            };
            if matches!(image.base, Base::Disk(..)) {
                self.is_alone(&section);
            }
            images.base_places.push(section.text("base").map_or(&entry.at, |(_, place)| place).clone());
            images.declared.push((image, &entry.at));
        }
        images
    }

    /// Nothing can be put on the disk of a system that is on its own.
    fn is_alone(&mut self, section: &Section<'_>) {
        for key in ["packages", "files", "run", "env"] {
            if let Some(node) = section.get(key) {
                let message = format!("`{key}` does not fit an image that is a disk");
                let problem = Problem::error(ProblemKind::Misfit, &node.place, message);
                self.report(problem.help("what is on a disk is known to its own system alone"));
            }
        }
    }

    fn image_name(&mut self, name: &str, place: &Place) {
        let message = if name == "host" {
            "`host` is the host's own root".to_owned()
        } else if !is_image_name(name) {
            format!("{} cannot be the name of an image", quoted(name))
        } else {
            return;
        };
        let rule = "choose a name of letters, digits, `.`, `_` and `-`";
        self.report(Problem::error(ProblemKind::BadName, place, message).help(rule));
    }

    fn steps(&mut self, section: &Section<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let packages = section.texts("packages");
        for (package, place) in &packages {
            let legal = |c: char| {
                c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | ':' | '=' | '~' | '/')
            };
            if !package.starts_with(|c: char| c.is_ascii_alphanumeric()) || !package.chars().all(legal) {
                self.error(
                    ProblemKind::BadValue,
                    place,
                    format!("{} is not the name of a package", quoted(package)),
                );
            }
        }
        self.unique("package", packages.iter().copied());
        if !packages.is_empty() {
            steps.push(Step::Packages(packages.into_iter().map(|(package, _)| package.to_owned()).collect()));
        }
        let files = self.file_entries(section);
        if !files.is_empty() {
            steps.push(Step::Files(files));
        }
        steps
            .extend(section.texts("run").into_iter().map(|(text, place)| Step::Run(self.shell(text, place))));
        steps
    }

    /// What lies below an image or, directly, a machine.
    fn base(&mut self, text: &str, place: &Place, images: &Images<'_>) -> Option<Base> {
        if text == "host" {
            return Some(Base::Host);
        }
        if images.numbers.contains_key(text) {
            return Some(Base::Image(text.to_owned()));
        }
        if let Some(codename) = text.strip_prefix("debian:") {
            if !codename.is_empty() && codename.bytes().all(|byte| byte.is_ascii_lowercase()) {
                return Some(Base::Debian(codename.to_owned()));
            }
            let problem = Problem::error(
                ProblemKind::BadValue,
                place,
                format!("{} is not a release of Debian", quoted(codename)),
            );
            self.report(problem.help("write its code name: `debian:bookworm`"));
            return None;
        }
        if text.contains('/')
            || text == "."
            || text == ".."
            || TAR_SUFFIXES.iter().any(|suffix| text.ends_with(suffix))
            || disk_format(text).is_some()
        {
            return self.existing(text, place).map(|(path, kind)| match kind {
                FileKind::File { .. } => match disk_format(text) {
                    Some(format) => Base::Disk(path, format),
                    None => Base::Tar(path),
                },
                FileKind::Folder if self.files.kind(&path.join("oci-layout")).is_some() => Base::Oci(path),
                FileKind::Folder => Base::Folder(path),
            });
        }
        let imported = self.files.images();
        if imported.iter().any(|name| name == text) {
            return Some(Base::Imported(text.to_owned()));
        }
        let mut declared: Vec<&str> = images.numbers.keys().copied().collect();
        declared.sort_by_key(|name| images.numbers[name]);
        let imported: Vec<&str> =
            imported.iter().map(String::as_str).filter(|name| !declared.contains(name)).collect();
        let known = declared.iter().chain(&imported).copied();
        let near = nearest(text, known.chain(["host"])).map(|near| format!("did you mean `{near}`? "));
        let ways = "an image is one of [images], one that was imported, `host`, `debian:CODENAME`, or a path with a \
                    `/` in it";
        let mut help = near.unwrap_or_default() + ways;
        for (what, names) in [("declared", declared), ("imported", imported)] {
            if !names.is_empty() {
                help += &format!("; {what}: {}", listed(names));
            }
        }
        let problem =
            Problem::error(ProblemKind::UnknownName, place, format!("there is no image {}", quoted(text)));
        self.report(problem.help(help));
        None
    }

    /// The name of the image that a machine's `image` stands for, and whether it is the host's root in the end.
    pub(super) fn machine_image(
        &mut self,
        text: &str,
        place: &Place,
        images: &mut Images<'_>,
    ) -> Option<String> {
        if !images.numbers.contains_key(text) && images.direct.iter().all(|image| image.name != text) {
            let base = self.base(text, place, images)?;
            images.direct.push(Image { name: text.to_owned(), base, steps: Vec::new(), env: Vec::new() });
        }
        Some(text.to_owned())
    }

    /// The name of the image that a machine without an agent has its disk from: what it names, or a disk with nothing on it.
    pub(super) fn disk_image(
        &mut self,
        section: &Section<'_>,
        at: &Place,
        images: &mut Images<'_>,
    ) -> Option<String> {
        if let Some((text, place)) = section.own_text("image") {
            let image = self.machine_image(text, place, images)?;
            if !matches!(images.lowest(&image), Some(Base::Disk(..))) {
                let message = format!("{} is not a disk that a system could boot from", quoted(text));
                let problem = Problem::error(ProblemKind::Misfit, place, message);
                self.report(
                    problem
                        .help("a machine with `agent = false` has a .qcow2, .raw or .img file as its image"),
                );
            }
            return Some(image);
        }
        if !section.has("cdrom") {
            let problem = Problem::error(ProblemKind::MissingKey, at, "the machine has nothing to boot from");
            self.report(
                problem.help("a machine with `agent = false` has a disk as its `image`, or a `cdrom`"),
            );
        }
        if images.direct.iter().all(|image| image.name != BLANK) {
            let (name, base) = (BLANK.to_owned(), Base::Blank);
            images.direct.push(Image { name, base, steps: Vec::new(), env: Vec::new() });
        }
        Some(BLANK.to_owned())
    }

    /// All images, each after its base, with the variables of its bases.
    pub(super) fn image_order(&mut self, images: Images<'_>) -> Vec<Image> {
        let Images { declared, base_places, numbers, direct } = images;
        let needs: Vec<Vec<usize>> = declared
            .iter()
            .map(|(image, _)| match &image.base {
                Base::Image(name) => numbers.get(name.as_str()).copied().into_iter().collect(),
                _ => Vec::new(),
            })
            .collect();
        let order = graph::sort(&needs);
        for cycle in &order.cycles {
            let names: Vec<&str> = cycle.iter().map(|number| declared[*number].0.name.as_str()).collect();
            let message = match names.as_slice() {
                [one] => format!("the image {} is its own base", quoted(one)),
                _ => format!("the images {} are each other's bases", listed(names.iter().copied())),
            };
            let says = |at: usize| {
                format!("{} is made from {}", quoted(names[at]), quoted(names[(at + 1) % names.len()]))
            };
            let mut problem =
                Problem::error(ProblemKind::Cycle, &base_places[cycle[0]], message).label(says(0));
            for at in 1..cycle.len() {
                problem = problem.also(&base_places[cycle[at]], says(at));
            }
            self.report(problem.help("one of them must have another base"));
        }
        let mut sorted: Vec<Image> = direct;
        let mut declared: Vec<Option<Image>> = declared.into_iter().map(|(image, _)| Some(image)).collect();
        for number in order.sorted {
            let Some(mut image) = declared[number].take() else { continue };
            if let Base::Image(base) = &image.base
                && let Some(base) = sorted.iter().find(|known| known.name == *base)
            {
                let own = std::mem::take(&mut image.env);
                image.env = overlaid(&base.env, own);
            }
            sorted.push(image);
        }
        sorted
    }
}

impl Images<'_> {
    /// Whether an image ends in the host's own root.
    pub(super) fn is_host(&self, name: &str) -> bool {
        self.lowest(name) == Some(&Base::Host)
    }

    /// What lies below all that makes an image.
    pub(super) fn lowest(&self, name: &str) -> Option<&Base> {
        let mut name = name;
        // A chain is no longer than the images, unless it is a circle.
        for _ in 0..=self.declared.len() {
            let base = match self.numbers.get(name) {
                Some(number) => &self.declared[*number].0.base,
                None => match self.direct.iter().find(|image| image.name == name) {
                    Some(image) => &image.base,
                    None => return None,
                },
            };
            match base {
                Base::Image(next) => name = next,
                base => return Some(base),
            }
        }
        None
    }
}
