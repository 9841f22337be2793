use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn read(mut file: File) -> Vec<u8> {
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    all
}

fn put(store: &Artifacts, content: &[u8], at: i64) -> Result<Artifact, Error> {
    store.put("x", &mut &*content, u64::MAX, UnixMillis(at))
}

/// A folder in memory, where there is such: a property is not about how long a disk takes to sync.
fn quick() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn files(store: &Artifacts) -> usize {
    let folders = entries(&store.folder).unwrap();
    folders.iter().map(|(f, _)| entries(f).unwrap().len()).sum()
}

#[test]
fn equal_contents_are_kept_once_and_what_is_too_long_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Artifacts::new(folder.path().join("deep/down"));
    let a = store.put("model.onnx", &mut &b"abc"[..], 3, UnixMillis(1_000)).unwrap();
    let b = store.put("copy.onnx", &mut &b"abc"[..], 3, UnixMillis(2_000)).unwrap();
    assert_eq!((&a.hash, a.bytes), (&b.hash, 3));
    assert_eq!(a.hash, blake3::hash(b"abc").to_hex().to_string());
    assert_eq!(read(store.open(&a.hash).unwrap()), b"abc");
    assert_eq!(store.put("x", &mut &b"abcd"[..], 3, UnixMillis(0)).map_err(|e| e.code), Err(Code::TooLarge));
    assert_eq!(files(&store), 1);
    let to = folder.path().join("copied");
    store.copy(&a.hash, &to).unwrap();
    fs::write(&to, "changed").unwrap();
    assert_eq!(read(store.open(&a.hash).unwrap()), b"abc", "what is kept is nobody's to change");
}

#[test]
fn a_name_that_is_no_hash_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = Artifacts::new(folder.path());
    fs::write(folder.path().join("secret"), "x").unwrap();
    for name in ["../secret", "", "secret", &"a".repeat(63), &"A".repeat(64), "é"] {
        assert_eq!(store.open(name).map_err(|e| e.code).unwrap_err(), Code::InvalidRequest, "{name}");
    }
    assert_eq!(store.open(&"a".repeat(64)).map_err(|e| e.code).unwrap_err(), Code::NotFound);
}

#[test]
fn many_that_put_and_collect_at_once_lose_nothing_that_was_put_last() {
    let folder = quick();
    let store = Artifacts::new(folder.path());
    std::thread::scope(|s| {
        let collect = store.clone();
        // Everything that is older than the puts below is collected all the while.
        s.spawn(move || {
            for _ in 0..300 {
                collect.gc(&HashSet::new(), UnixMillis(5_000)).unwrap();
            }
        });
        for worker in 0..3_u8 {
            let store = store.clone();
            s.spawn(move || {
                for n in 0..100_u8 {
                    let content = [worker, n % 7];
                    let old = put(&store, &content, 1_000).unwrap();
                    let kept = put(&store, &content, 9_000).unwrap();
                    assert_eq!(old, kept);
                    assert_eq!(read(store.open(&kept.hash).unwrap()), content);
                }
            });
        }
    });
}

/// What happens to the folder.
#[derive(Debug, Clone)]
enum Step {
    /// Content, at.
    Put(u8, i64),
    /// Which live, before.
    Collect(Vec<u8>, i64),
    /// The content's file is cut short or changed, as by a disk that lost writes.
    Tear(u8, bool),
    /// A writer died in the middle.
    Torn(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u8, 1..100_i64).prop_map(|(c, t)| Step::Put(c, t)),
        2 => (proptest::collection::vec(0..5_u8, 0..3), 1..100_i64).prop_map(|(l, t)| Step::Collect(l, t)),
        1 => (0..5_u8, any::<bool>()).prop_map(|(c, cut)| Step::Tear(c, cut)),
        1 => (1..100_i64).prop_map(Step::Torn),
    ]
}

fn content(n: u8) -> Vec<u8> {
    vec![n; usize::from(n) * 1_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A model: content → when it was last put, and whether its file was damaged since.
    #[test]
    fn what_was_put_is_there_whole_until_nothing_names_it_and_its_time_is_over(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = quick();
        let store = Artifacts::new(folder.path());
        let mut model: BTreeMap<u8, (i64, Option<bool>)> = BTreeMap::new();
        let hash = |c: u8| blake3::hash(&content(c)).to_hex().to_string();
        for step in steps {
            match step {
                Step::Put(c, at) => {
                    let put = put(&store, &content(c), at * 1_000).unwrap();
                    prop_assert_eq!(&put.hash, &hash(c));
                    let before = model.get(&c).copied();
                    // One that is as long as it was is not looked into when it is put again.
                    let damaged = before.and_then(|(_, d)| d).filter(|cut| !*cut);
                    // It never becomes older.
                    let at = before.map_or(at, |(was, d)| if d == Some(true) { at } else { at.max(was) });
                    model.insert(c, (at, damaged));
                }
                Step::Collect(live, before) => {
                    let names: HashSet<String> = live.iter().map(|c| hash(*c)).collect();
                    let collected = store.gc(&names, UnixMillis(before * 1_000)).unwrap();
                    let was = model.len();
                    model.retain(|c, (at, _)| live.contains(c) || *at >= before);
                    prop_assert_eq!(collected.files, (was - model.len()) as u64);
                }
                Step::Tear(c, cut) if c > 0 && model.contains_key(&c) => {
                    let path = store.path(&hash(c)).unwrap();
                    let at = fs::metadata(&path).unwrap().modified().unwrap();
                    let mut bytes = fs::read(&path).unwrap();
                    if cut { bytes.truncate(1) } else { bytes[0] = 99 }
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, bytes).unwrap();
                    File::open(&path).unwrap().set_modified(at).unwrap();
                    let entry = model.get_mut(&c).unwrap();
                    entry.1 = Some(cut || entry.1 == Some(true));
                }
                Step::Tear(..) => {}
                Step::Torn(at) => {
                    let mut aside = store.aside(UnixMillis(at)).unwrap();
                    aside.file.write_all(b"half").unwrap();
                    aside.file.set_modified(time(UnixMillis(at * 1_000))).unwrap();
                    // As a kill leaves it.
                    aside.placed = true;
                }
            }
            for c in 0..5_u8 {
                let found = store.open(&hash(c));
                match model.get(&c) {
                    Some((_, None)) => prop_assert_eq!(read(found.unwrap()), content(c)),
                    Some((_, Some(_))) => {
                        prop_assert_eq!(found.map_err(|e| e.code).unwrap_err(), Code::NotFound, "never given");
                        model.remove(&c);
                    }
                    None => prop_assert!(found.is_err()),
                }
            }
        }
        store.gc(&HashSet::new(), UnixMillis(1_000_000)).unwrap();
        prop_assert_eq!(files(&store), 0, "nothing is left behind");
    }
}

#[test]
fn what_a_dead_process_had_half_written_is_removed_and_what_is_being_written_is_not() {
    let folder = quick();
    let store = Artifacts::new(folder.path());
    assert_eq!(store.sweep().unwrap(), 0);
    let kept = put(&store, b"abc", 1).unwrap();
    let living = store.aside(UnixMillis(5)).unwrap();
    // Nobody holds its lock any more.
    fs::write(folder.path().join("tmp/7-1-0"), "half").unwrap();
    assert_eq!(store.sweep().unwrap(), 1);
    assert!(living.path.exists() && read(store.open(&kept.hash).unwrap()) == b"abc");
    assert_eq!(entries(&folder.path().join("tmp")).unwrap().len(), 1);
}
