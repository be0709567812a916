//! Every path of a module that climbs to the crate root or out of the module, wherever it stands: in `use`, in
//! expressions, types and patterns, in attributes, and (by their tokens) inside macros.

use syn::{
    buffer::{Cursor, TokenBuffer},
    visit::{self, Visit},
};

/// A path from the crate root down, as a module mentions it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Segments below the crate root; empty when the root itself is meant.
    pub path: Vec<String>,
    /// How it is mentioned.
    pub manner: Manner,
}

/// What a mention does with its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Names one thing.
    Name,
    /// Takes everything in it (`::*`).
    All,
    /// Gives the crate root a name of its own, behind which any room could be reached.
    Alias,
}

/// What a module brings into its own scope with `use`: for the resolution of re-exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// As written; relative paths are relative to the importing module.
    pub path: Vec<String>,
    /// The name it has here; `None` for a glob.
    pub name: Option<String>,
    /// Whether the import can be seen from other modules.
    pub exported: bool,
}

/// Collects the mentions of one module, and not those of its child modules.
pub(crate) struct Mentions<'a> {
    /// How the crate calls itself: `crate` in the library, `segl` in the binary.
    root: &'a str,
    here: Vec<String>,
    /// What was found.
    pub found: Vec<Mention>,
}

impl<'a> Mentions<'a> {
    pub(crate) fn new(root: &'a str, here: &[String]) -> Self {
        Self { root, here: here.to_vec(), found: Vec::new() }
    }

    fn record(&mut self, written: &[String], manner: Manner) {
        let Some(path) = absolute(self.root, &self.here, written) else { return };
        match (path.is_empty(), manner) {
            // `pub(crate)` and its kind name the root and use nothing of it.
            (true, Manner::Name) => {}
            _ => self.found.push(Mention { path, manner }),
        }
    }

    /// Finds `crate::a::b` and its kind in tokens that only their macro understands.
    fn scan(&mut self, mut cursor: Cursor<'_>) {
        while !cursor.eof() {
            if let Some((ident, after)) = cursor.ident() {
                let start = ident.to_string();
                cursor = if is_start(self.root, &start) { self.follow(vec![start], after) } else { after };
            } else if let Some((literal, after)) = cursor.literal() {
                self.path_in_text(&literal.to_string());
                cursor = after;
            } else if let Some((inside, _, _, after)) = cursor.any_group() {
                self.scan(inside);
                cursor = after;
            } else if let Some((_, after)) = cursor.token_tree() {
                cursor = after;
            } else {
                return;
            }
        }
    }

    /// Follows a path through tokens to its end, into each branch of a group, and records it.
    fn follow<'c>(&mut self, mut path: Vec<String>, mut cursor: Cursor<'c>) -> Cursor<'c> {
        while let Some(after) = path_separator(cursor) {
            if let Some((ident, next)) = after.ident() {
                path.push(ident.to_string());
                cursor = next;
            } else if after.punct().is_some_and(|(punct, _)| punct.as_char() == '*') {
                self.record(&path, Manner::All);
                return after;
            } else if let Some((inside, _, _, next)) = after.any_group() {
                self.branches(&path, inside);
                return next;
            } else {
                break;
            }
        }
        self.record(&path, Manner::Name);
        cursor
    }

    fn branches(&mut self, path: &[String], mut cursor: Cursor<'_>) {
        let mut at_start = true;
        while !cursor.eof() {
            if let (true, Some((ident, after))) = (at_start, cursor.ident()) {
                let mut branch = path.to_vec();
                if ident != "self" {
                    branch.push(ident.to_string());
                }
                cursor = self.follow(branch, after);
                at_start = false;
            } else if let Some((token, after)) = cursor.token_tree() {
                at_start = token.to_string() == ",";
                cursor = after;
            } else {
                return;
            }
        }
    }

    /// Attributes such as `#[serde(with = "crate::a::b")]` carry paths as text.
    fn path_in_text(&mut self, literal: &str) {
        let text = literal.trim_matches('"');
        if let Ok(path) = syn::parse_str::<syn::Path>(text) {
            self.record(&segments(&path), Manner::Name);
        }
    }
}

impl<'ast> Visit<'ast> for Mentions<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.record(&segments(path), Manner::Name);
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for import in imports(item) {
            let manner = if import.name.is_none() { Manner::All } else { Manner::Name };
            let is_root = absolute(self.root, &self.here, &import.path).is_some_and(|path| path.is_empty());
            let manner = if is_root && manner == Manner::Name { Manner::Alias } else { manner };
            self.record(&import.path, manner);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if item.ident == "self" {
            self.found.push(Mention { path: Vec::new(), manner: Manner::Alias });
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Modules at the top of a module are visited on their own; this one stands inside a function.
        self.here.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.here.pop();
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        self.scan(TokenBuffer::new2(called.tokens.clone()).begin());
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        if let syn::Item::Verbatim(tokens) = item {
            self.scan(TokenBuffer::new2(tokens.clone()).begin());
        }
        visit::visit_item(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        match &attribute.meta {
            // Links in documentation lead the reader, not the compiler: they may point anywhere.
            meta if meta.path().is_ident("doc") => {}
            syn::Meta::List(list) => self.scan(TokenBuffer::new2(list.tokens.clone()).begin()),
            syn::Meta::NameValue(pair) => self.visit_expr(&pair.value),
            syn::Meta::Path(_) => {}
        }
    }
}

/// The leaves of a `use` item, each with the path that leads to it.
pub(crate) fn imports(item: &syn::ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    // A leading `::` names another crate.
    if item.leading_colon.is_none() {
        let exported = !matches!(item.vis, syn::Visibility::Inherited);
        leaves(&item.tree, &[], exported, &mut found);
    }
    found
}

fn leaves(tree: &syn::UseTree, prefix: &[String], exported: bool, found: &mut Vec<Import>) {
    let to = |ident: &syn::Ident| {
        let mut path = prefix.to_vec();
        // `a::{self}` is `a`; at the start of a path, `self` is this module.
        if ident != "self" || prefix.is_empty() {
            path.push(ident.to_string());
        }
        path
    };
    match tree {
        syn::UseTree::Path(step) => leaves(&step.tree, &to(&step.ident), exported, found),
        syn::UseTree::Name(leaf) => {
            let path = to(&leaf.ident);
            found.push(Import { name: path.last().cloned(), path, exported });
        }
        syn::UseTree::Rename(leaf) => {
            found.push(Import { path: to(&leaf.ident), name: Some(leaf.rename.to_string()), exported });
        }
        syn::UseTree::Glob(_) => found.push(Import { path: prefix.to_vec(), name: None, exported }),
        syn::UseTree::Group(group) => {
            for branch in &group.items {
                leaves(branch, prefix, exported, found);
            }
        }
    }
}

/// `written`, as seen from the module `here`, from the crate root down. `None` for a path that starts at a name:
/// what such a name means was brought into scope by a `use` that is looked at itself.
pub(crate) fn absolute(root: &str, here: &[String], written: &[String]) -> Option<Vec<String>> {
    let (first, mut rest) = written.split_first()?;
    if !is_start(root, first) {
        return None;
    }
    if first == root {
        return Some(rest.to_vec());
    }
    let mut base = here.to_vec();
    if first == "super" {
        base.pop()?;
    }
    while let Some((next, after)) = rest.split_first()
        && next == "super"
    {
        base.pop()?;
        rest = after;
    }
    base.extend_from_slice(rest);
    Some(base)
}

fn is_start(root: &str, segment: &str) -> bool {
    segment == root || (root == "crate" && matches!(segment, "self" | "super"))
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn path_separator(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, after) = cursor.punct()?;
    let (second, after) = after.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(after)
}
