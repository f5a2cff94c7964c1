use super::*;
use crate::clock::ManualClock;

const MAC: [u8; 32] = [7; 32];
const NOW: i64 = 1_795_000_000_000;

fn key(n: u32) -> CacheKey {
    CacheKey::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn entry(n: u32, len: usize) -> Arc<Entry> {
    Arc::new(Entry::new(http::StatusCode::OK, noise(n, len), NOW, Duration::from_secs(3600)))
}

/// Bytes that do not compress.
fn noise(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn open_with(path: &Path, options: DiskOptions, mac_key: [u8; 32], clock: &ManualClock) -> Disk {
    Disk::open(path, options, mac_key, Arc::new(clock.clone()))
}

fn open(path: &Path) -> Disk {
    open_with(path, DiskOptions::default(), MAC, &ManualClock::at_ms(NOW))
}

/// A read that came late on a busy machine is asked again; a real miss stays one.
async fn get(disk: &Disk, n: u32) -> Option<Arc<Entry>> {
    for _ in 0..20 {
        let late = disk.stats().late;
        let found = disk.get(&key(n)).await;
        if found.is_some() || disk.stats().late == late {
            return found;
        }
    }
    None
}

fn quarantined(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(".quarantine-")).count()
}

#[tokio::test]
async fn what_was_stored_is_there_at_once_and_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/c.redb");
    let disk = open(&path);
    disk.put(key(1), entry(1, 3000));
    assert_eq!(get(&disk, 1).await, Some(entry(1, 3000)), "before it is committed");
    disk.flush_async().await;
    assert_eq!(disk.stats().pending, 0);
    assert_eq!(get(&disk, 1).await, Some(entry(1, 3000)), "after it is committed");
    disk.put(key(2), entry(2, 10));
    drop(disk);
    let disk = open(&path);
    assert_eq!(disk.stats().entries, 2, "closing writes what was pending");
    assert_eq!(get(&disk, 1).await, Some(entry(1, 3000)));
    assert_eq!(get(&disk, 2).await, Some(entry(2, 10)));
    assert_eq!(get(&disk, 3).await, None);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_thousand_stores_survive_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    (0..1000).for_each(|n| disk.put(key(n), entry(n, 500 + n as usize)));
    disk.flush();
    assert_eq!(disk.stats().stored, 1000);
    drop(disk);
    let disk = open(&path);
    for n in 0..1000 {
        assert_eq!(get(&disk, n).await, Some(entry(n, 500 + n as usize)), "{n}");
    }
}

#[tokio::test]
async fn the_last_of_several_stores_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    for len in [10, 20, 30] {
        disk.put(key(1), entry(1, len));
    }
    disk.flush();
    disk.put(key(1), entry(1, 40));
    drop(disk);
    let disk = open(&path);
    assert_eq!(disk.stats().entries, 1);
    assert_eq!(get(&disk, 1).await, Some(entry(1, 40)));
}

#[tokio::test]
async fn what_is_removed_or_cleared_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    (0..4).for_each(|n| disk.put(key(n), entry(n, 100)));
    disk.remove(&key(0));
    disk.flush();
    disk.remove(&key(1));
    // As after a kill: what the file holds now, without a proper close.
    let copy = dir.path().join("copy.redb");
    std::fs::copy(&path, &copy).unwrap();
    let killed = open(&copy);
    for (n, there) in [(0, false), (1, false), (2, true), (3, true)] {
        assert_eq!(get(&killed, n).await.is_some(), there, "{n}");
    }
    disk.clear();
    assert!(get(&disk, 2).await.is_none());
    disk.put(key(5), entry(5, 100));
    drop(disk);
    let disk = open(&path);
    assert!(get(&disk, 2).await.is_none());
    assert!(get(&disk, 5).await.is_some(), "it goes on after a purge");
}

#[tokio::test]
async fn an_entry_expires_by_the_clock_that_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let clock = ManualClock::at_ms(NOW);
    let disk = open_with(&path, DiskOptions::default(), MAC, &clock);
    (1..4).for_each(|n| disk.put(key(n), entry(n, 100)));
    disk.flush();
    clock.set_ms(NOW - 3_600_000);
    assert!(get(&disk, 1).await.is_none(), "the clock went back");
    clock.set_ms(NOW + 3_599_999);
    assert!(get(&disk, 2).await.is_some());
    clock.set_ms(NOW + 3_600_000);
    assert!(get(&disk, 3).await.is_none());
    disk.put(key(9), entry(9, 100));
    assert!(get(&disk, 9).await.is_none(), "also while it is pending");
}

#[tokio::test]
async fn another_secret_starts_empty_and_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    disk.put(key(1), entry(1, 100));
    drop(disk);
    let disk = open_with(&path, DiskOptions::default(), [8; 32], &ManualClock::at_ms(NOW));
    assert!(get(&disk, 1).await.is_none());
    assert_eq!((disk.stats().entries, disk.stats().damaged), (0, 0));
    disk.put(key(2), entry(2, 100));
    disk.flush();
    assert!(get(&disk, 2).await.is_some());
    assert_eq!(quarantined(dir.path()), 0);
}

#[tokio::test]
async fn garbage_is_put_aside_and_a_new_file_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    // The secret beside it tells that the file was a cache file.
    std::fs::write(dir.path().join("c.redb.secret"), [7; 32]).unwrap();
    for round in 0..2u8 {
        std::fs::write(&path, vec![b'g' + round; 100_000]).unwrap();
        let disk = open(&path);
        assert!(disk.stats().available);
        disk.put(key(1), entry(1, 100));
        disk.flush();
        assert!(get(&disk, 1).await.is_some());
        assert_eq!(quarantined(dir.path()), 1, "one damaged file is kept");
    }
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.redb");
    let theirs = redb::Database::create(&other).unwrap();
    let write = theirs.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, u64>::new("rows")).unwrap().insert(1, 2).unwrap();
    write.commit().unwrap();
    drop(theirs);
    let mut broken = std::fs::read(&other).unwrap();
    broken[9..4000].fill(0xA5);
    for (name, bytes) in
        [("notes.txt", b"my notes".to_vec()), ("large.bin", vec![b'g'; 100_000]), ("broken.redb", broken)]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let disk = open(&path);
        disk.put(key(1), entry(1, 100));
        disk.flush();
        assert!(!disk.stats().available, "{name} is not used");
        drop(disk);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name} keeps its bytes");
    }
    let disk = open(&other);
    assert!(!disk.stats().available, "another program's database is not used");
    drop(disk);
    let theirs = redb::Database::open(&other).unwrap();
    let read = redb::ReadableDatabase::begin_read(&theirs).unwrap();
    let rows = read.open_table(redb::TableDefinition::<u64, u64>::new("rows")).unwrap();
    assert_eq!(rows.get(1).unwrap().map(|value| value.value()), Some(2), "and keeps its rows");
    assert_eq!(quarantined(dir.path()), 0);
}

#[tokio::test]
async fn a_file_in_use_leaves_a_tier_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let owner = open(&path);
    owner.put(key(1), entry(1, 100));
    owner.flush();
    let second = open(&path);
    assert!(!second.stats().available);
    assert!(second.get(&key(1)).await.is_none());
    second.put(key(2), entry(2, 100));
    second.remove(&key(1));
    second.flush();
    assert_eq!((second.stats().dropped, second.stats().state), (1, DiskState::NotOwner));
    assert!(get(&owner, 1).await.is_some(), "the owner is not disturbed");
    let options = DiskOptions { lock_retry: Duration::from_millis(20), ..DiskOptions::default() };
    let third = open_with(&path, options, MAC, &ManualClock::at_ms(NOW));
    third.clear();
    assert!(!third.stats().available);
    drop(second);
    drop(owner);
    for _ in 0..500 {
        if third.stats().available {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(third.stats().state, DiskState::Healthy, "it takes over");
    third.flush();
    assert!(get(&third, 1).await.is_none(), "a purge made before that is made up for");
    assert_eq!(quarantined(dir.path()), 0);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_leaves_a_tier_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("plain"), "").unwrap();
    for path in [dir.path().to_owned(), dir.path().join("plain/c.redb")] {
        let disk = open(&path);
        disk.put(key(1), entry(1, 100));
        disk.flush();
        disk.clear();
        assert!(disk.get(&key(1)).await.is_none());
        assert!(!disk.stats().available, "{}", path.display());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("elsewhere");
    std::os::unix::fs::symlink(&target, dir.path().join("c.redb")).unwrap();
    let disk = open(&dir.path().join("c.redb"));
    assert!(!disk.stats().available);
    assert!(!target.exists(), "nothing was written through the link");
}

#[tokio::test]
async fn damaged_bytes_are_a_miss_and_many_of_them_put_the_file_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    (0..12).for_each(|n| disk.put(key(n), entry(n, 5000)));
    drop(disk);
    // One bit in the body of each entry, which the engine does not notice.
    let mut bytes = std::fs::read(&path).unwrap();
    for n in 0..12u32 {
        let body = &noise(n, 5000)[..64];
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(body.len()).position(|window| window == body) {
            bytes[at + found + 10] ^= 1;
            at += found + body.len();
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let disk = open(&path);
    assert_eq!(disk.stats().entries, 12);
    for n in 0..9 {
        assert!(get(&disk, n).await.is_none(), "{n} is damaged");
    }
    assert_eq!(disk.stats().damaged, 9);
    disk.flush();
    assert_eq!(quarantined(dir.path()), 1);
    disk.put(key(1), entry(1, 5000));
    disk.flush();
    assert!(get(&disk, 1).await.is_some(), "a new file has taken its place");
}

#[tokio::test]
async fn the_file_stays_within_its_bound_and_the_newest_stay_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let max_bytes = DiskOptions::LEAST_BYTES;
    let options = DiskOptions { max_bytes, ..DiskOptions::default() };
    let disk = open_with(&path, options, MAC, &ManualClock::at_ms(NOW));
    for n in 0..1500u32 {
        disk.put(key(n), entry(n, if n % 10 == 0 { 200_000 } else { 15_000 + n as usize }));
        if n % 50 == 0 {
            disk.flush();
            assert!(disk.stats().file_bytes <= max_bytes, "{} bytes after {n}", disk.stats().file_bytes);
        }
    }
    disk.flush();
    let stats = disk.stats();
    assert!(stats.file_bytes <= max_bytes, "{stats:?}");
    assert!(stats.evicted > 500, "{stats:?}");
    assert!(stats.live_bytes > max_bytes / 4, "{stats:?}");
    assert!(get(&disk, 1499).await.is_some());
    assert!(get(&disk, 0).await.is_none());
}

#[tokio::test]
async fn what_was_read_gets_a_second_chance_and_what_was_not_goes() {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions { max_bytes: DiskOptions::LEAST_BYTES, ..DiskOptions::default() };
    let disk = open_with(&dir.path().join("c.redb"), options, MAC, &ManualClock::at_ms(NOW));
    (0..100).for_each(|n| disk.put(key(n), entry(n, 4000)));
    disk.flush();
    for n in 0..20_000u32 {
        if n % 250 == 0 {
            for wanted in 0..10 {
                assert!(get(&disk, wanted).await.is_some(), "{wanted} is in demand, at {n}");
            }
            disk.flush();
        }
        disk.put(key(1000 + n), entry(1000 + n, 4000));
    }
    disk.flush();
    let stats = disk.stats();
    assert!(stats.kept >= 10 && stats.evicted > 5000, "{stats:?}");
    assert!(get(&disk, 50).await.is_none(), "nobody asked for this one");
}

#[tokio::test]
async fn a_purged_scope_is_gone_for_good_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    let (mine, other) = (disk.stamp([1; 16]), disk.stamp([2; 16]));
    for n in 0..10 {
        disk.put_stamped(key(n), entry(n, 100), if n < 5 { mine } else { other });
    }
    disk.flush();
    disk.purge([1; 16]);
    // Late, from a call sent before the purge.
    disk.put_stamped(key(20), entry(20, 100), mine);
    // As after a kill right after the return.
    let copy = dir.path().join("copy.redb");
    std::fs::copy(&path, &copy).unwrap();
    let killed = open(&copy);
    for disk in [&killed, &disk] {
        for n in 0..10 {
            assert_eq!(get(disk, n).await.is_some(), n >= 5, "{n}");
        }
        assert!(get(disk, 20).await.is_none());
    }
    disk.put_stamped(key(1), entry(1, 100), disk.stamp([1; 16]));
    drop(disk);
    let disk = open(&path);
    assert!(get(&disk, 1).await.is_some(), "it goes on after a purge");
    assert_eq!(disk.stats().entries, 6);
}

#[tokio::test]
async fn a_store_that_is_refused_leaves_no_older_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    disk.put(key(1), entry(1, 100));
    disk.flush();
    disk.put(key(1), entry(1, 2 << 20));
    assert!(get(&disk, 1).await.is_none(), "the newer one is too large, the older one is old");
    disk.flush();
    drop(disk);
    assert_eq!(open(&path).stats().entries, 0, "nor after a restart");
}

#[tokio::test]
async fn a_removed_entry_does_not_come_back_from_an_older_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    for len in [10, 20] {
        disk.put(key(1), entry(1, len));
        disk.put(key(len as u32), entry(2, 10));
        disk.flush();
    }
    disk.remove(&key(1));
    drop(disk);
    let disk = open(&path);
    assert!(get(&disk, 1).await.is_none());
    assert!(get(&disk, 10).await.is_some() && get(&disk, 20).await.is_some(), "its neighbours stay");
}

#[test]
fn a_file_at_rest_is_verified_and_compacted_and_one_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let disk = open(&path);
    (0..500).for_each(|n| disk.put(key(n), entry(n, 3000)));
    disk.flush();
    for refused in [Disk::verify(&path, MAC).map(drop), Disk::compact(&path, MAC).map(drop)] {
        assert!(refused.unwrap_err().to_string().contains("is in use"));
    }
    (100..500).for_each(|n| disk.remove(&key(n)));
    drop(disk);
    let checked = Disk::verify(&path, MAC).unwrap();
    assert!(checked.is_good() && checked.entries == 100, "{checked:?}");
    assert!(Disk::verify(&path, [8; 32]).is_err(), "not with another secret");
    let compacted = Disk::compact(&path, MAC).unwrap();
    assert!(compacted.after < compacted.before, "{compacted:?}");
    assert_eq!(open(&path).stats().entries, 100);
    assert!(Disk::verify(dir.path().join("none"), MAC).is_err());
    assert!(!dir.path().join("none").exists(), "looking makes no file");
}

#[cfg(feature = "encrypt")]
#[test]
fn without_a_salt_nothing_is_sealed_rather_than_in_plain_text() {
    let dir = tempfile::tempdir().unwrap();
    for encrypt in [false, true] {
        let options = DiskOptions { encrypt, ..DiskOptions::default() };
        let disk = open_with(&dir.path().join("c.redb"), options, MAC, &ManualClock::at_ms(NOW));
        assert_eq!(disk.shared.sealing_keys(&[1; 16]).is_none(), encrypt, "no salt was made");
        lock(&disk.shared.salts).insert([1; 16], [2; 32]);
        assert!(disk.shared.sealing_keys(&[1; 16]).is_some());
    }
}

#[cfg(feature = "encrypt")]
#[tokio::test]
async fn an_encrypted_file_shows_no_answer_and_a_purge_shreds_its_scope() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    let options = DiskOptions { encrypt: true, ..DiskOptions::default() };
    let reopen = || open_with(&path, options.clone(), MAC, &ManualClock::at_ms(NOW));
    let disk = reopen();
    let text = |n: u32| format!("canary answer {n} ").repeat(40);
    for n in 0..4 {
        let entry = Entry::new(http::StatusCode::OK, text(n), NOW, Duration::from_secs(3600));
        disk.put_stamped(key(n), Arc::new(entry), disk.stamp([n as u8 / 2; 16]));
    }
    drop(disk);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"canary"));
    let disk = reopen();
    for n in 0..4 {
        assert_eq!(get(&disk, n).await.unwrap().body, text(n), "{n}");
    }
    disk.purge([0; 16]);
    drop(disk);
    let disk = reopen();
    for n in 0..4 {
        assert_eq!(get(&disk, n).await.is_some(), n >= 2, "{n}");
    }
    assert_eq!(disk.stats().damaged, 0);
    drop(disk);
    assert!(get(&open(&path), 3).await.is_none(), "not without encryption");
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_may_write_in_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(!open(&dir.path().join("c.redb")).stats().available);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(open(&dir.path().join("c.redb")).stats().available);
}

#[test]
fn an_entry_too_large_for_the_disk_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir.path().join("c.redb"));
    disk.put(key(1), entry(1, 2 << 20));
    disk.flush();
    assert_eq!((disk.stats().dropped, disk.stats().stored), (1, 0));
}
