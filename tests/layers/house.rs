//! The crate's modules as the compiler would find them, and what a path leads to once re-exports are followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use syn::visit::Visit;

use super::mentions::{Import, Manner, Mention, Mentions, absolute, imports};

/// Source files by their path from the top of the project, with `/`.
pub(crate) type Sources = BTreeMap<String, String>;

/// Reads every `.rs` file below `top/src`.
pub(crate) fn read_sources(top: &Path) -> io::Result<Sources> {
    let mut sources = Sources::new();
    let mut folders = vec![top.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
                sources.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(sources)
}

/// One module: the crate root, a file, or a `mod` in braces.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// The file it stands in.
    pub file: String,
    /// What it mentions of the crate.
    pub mentions: Vec<Mention>,
    declared: BTreeSet<String>,
    imports: Vec<Import>,
}

/// The library's modules by path, tests left out.
#[derive(Debug, Default)]
pub(crate) struct House {
    /// Modules by their path below the crate root; the root's own path is empty.
    pub modules: BTreeMap<Vec<String>, Module>,
    /// Files that hold tests only.
    pub test_files: BTreeSet<String>,
    /// What could not be made sense of.
    pub faults: Vec<String>,
}

impl House {
    /// Follows the `mod` items from `src/lib.rs` on.
    pub(crate) fn open(sources: &Sources) -> Self {
        let mut house = Self::default();
        house.enter_file(sources, Vec::new(), "src/lib.rs", false);
        house.find_orphans(sources);
        house
    }

    /// The rooms that `mention` leads to, re-exports followed. Empty when it leads to no room.
    pub(crate) fn rooms_of(&self, mention: &Mention) -> BTreeSet<String> {
        let mut trace = Trace::default();
        self.follow(&mention.path, &mut trace);
        if mention.manner == Manner::All
            && let Some(module) = self.modules.get(&mention.path)
        {
            // Who takes everything takes what is passed on, too.
            for import in module.imports.iter().filter(|import| import.exported) {
                if let Some(path) = self.target(&mention.path, import) {
                    self.follow(&path, &mut trace);
                }
            }
        }
        trace.rooms
    }

    fn enter_file(&mut self, sources: &Sources, path: Vec<String>, file: &str, only_tests: bool) {
        let Some(text) = sources.get(file) else {
            self.faults.push(format!("{file}: declared as a module, but there is no such file"));
            return;
        };
        if only_tests {
            self.test_files.insert(file.to_owned());
        }
        match syn::parse_file(text) {
            Ok(parsed) => self.enter(sources, path, file, &parsed.items, only_tests),
            Err(error) => self.faults.push(format!("{file}: {error}")),
        }
    }

    fn enter(
        &mut self,
        sources: &Sources,
        path: Vec<String>,
        file: &str,
        items: &[syn::Item],
        only_tests: bool,
    ) {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        let mut mentions = Mentions::new("crate", &path);
        for item in items {
            module.declared.extend(declared_name(item));
            let syn::Item::Mod(child) = item else {
                if let syn::Item::Use(item) = item {
                    module.imports.extend(imports(item));
                }
                mentions.visit_item(item);
                continue;
            };
            let mut child_path = path.clone();
            child_path.push(child.ident.to_string());
            if child.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
                self.faults.push(format!("{file}: mod {} is led elsewhere by #[path]", child.ident));
            }
            // Tests inside a room are exempt. They are no part of what is built, so they can tie no knot; and some are
            // there to show that two rooms fit (what the sandbox prints, the real configuration reads).
            let only_tests = only_tests || child.attrs.iter().any(is_cfg_test);
            match &child.content {
                Some((_, items)) => self.enter(sources, child_path, file, items, only_tests),
                None => {
                    let child_file = format!("src/{}.rs", child_path.join("/"));
                    self.enter_file(sources, child_path, &child_file, only_tests);
                }
            }
        }
        if !only_tests {
            module.mentions = mentions.found;
            self.modules.insert(path, module);
        }
    }

    /// A file that no module declares is compiled by nobody and guarded by nothing.
    fn find_orphans(&mut self, sources: &Sources) {
        let known: BTreeSet<&str> = self
            .modules
            .values()
            .map(|module| module.file.as_str())
            .chain(self.test_files.iter().map(String::as_str))
            .collect();
        let orphans = sources.keys().filter(|file| *file != "src/main.rs" && !known.contains(file.as_str()));
        let faults: Vec<String> =
            orphans.map(|file| format!("{file}: no module declares this file")).collect();
        self.faults.extend(faults);
    }

    /// Walks `path` down from the root and notes each room it comes through. Says whether the path was found.
    fn follow(&self, path: &[String], trace: &mut Trace) -> bool {
        if !trace.seen.insert(path.to_vec()) {
            return false;
        }
        let mut here: Vec<String> = Vec::new();
        let mut rest = path;
        while let Some((next, after)) = rest.split_first() {
            let mut child = here.clone();
            child.push(next.clone());
            if !self.modules.contains_key(&child) {
                return self.follow_item(&here, next, after, trace);
            }
            if here.is_empty() {
                trace.rooms.insert(next.clone());
            }
            here = child;
            rest = after;
        }
        true
    }

    fn follow_item(&self, here: &[String], name: &str, after: &[String], trace: &mut Trace) -> bool {
        let Some(module) = self.modules.get(here) else { return false };
        let named = module.imports.iter().filter(|import| import.name.as_deref() == Some(name));
        let mut found = module.declared.contains(name);
        for import in named {
            if let Some(mut path) = self.target(here, import) {
                path.extend_from_slice(after);
                found |= self.follow(&path, trace);
            }
        }
        if found {
            return true;
        }
        for glob in module.imports.iter().filter(|import| import.name.is_none()) {
            let Some(mut path) = self.target(here, glob) else { continue };
            path.push(name.to_owned());
            path.extend_from_slice(after);
            let mut attempt = Trace { rooms: BTreeSet::new(), seen: trace.seen.clone() };
            if self.follow(&path, &mut attempt) {
                trace.rooms.extend(attempt.rooms);
                return true;
            }
        }
        false
    }

    /// Where an import of the module `here` leads; `None` when it leads out of the crate.
    fn target(&self, here: &[String], import: &Import) -> Option<Vec<String>> {
        absolute("crate", here, &import.path).or_else(|| {
            let module = self.modules.get(here)?;
            let first = import.path.first()?;
            let is_ours = module.declared.contains(first)
                || module.imports.iter().any(|other| other != import && other.name.as_ref() == Some(first));
            is_ours.then(|| here.iter().chain(&import.path).cloned().collect())
        })
    }
}

#[derive(Default)]
struct Trace {
    rooms: BTreeSet<String>,
    /// Paths already walked: re-exports may run in circles.
    seen: BTreeSet<Vec<String>>,
}

/// Whether an attribute leaves its item out of everything but tests.
fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

fn declared_name(item: &syn::Item) -> Option<String> {
    match item {
        syn::Item::Const(item) => Some(item.ident.to_string()),
        syn::Item::Enum(item) => Some(item.ident.to_string()),
        syn::Item::Fn(item) => Some(item.sig.ident.to_string()),
        syn::Item::Macro(item) => item.ident.as_ref().map(ToString::to_string),
        syn::Item::Mod(item) => Some(item.ident.to_string()),
        syn::Item::Static(item) => Some(item.ident.to_string()),
        syn::Item::Struct(item) => Some(item.ident.to_string()),
        syn::Item::Trait(item) => Some(item.ident.to_string()),
        syn::Item::TraitAlias(item) => Some(item.ident.to_string()),
        syn::Item::Type(item) => Some(item.ident.to_string()),
        syn::Item::Union(item) => Some(item.ident.to_string()),
        _ => None,
    }
}
