//! Who has started whom, as Linux tells it.

use std::fs;

/// The processes that the threads of `parent` have started, those too that have ended and wait to be asked how.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    // A thread may end meanwhile; its children become those of another one.
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let numbers = |list: String| -> Vec<u32> {
        list.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    lists.flat_map(numbers).collect()
}
