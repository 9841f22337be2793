//! What every [`FileStore`](store::FileStore) must do.

use contract::UnixMillis;
use futures_util::future::join_all;
use store::{Error, FileInfo, FilePage};

use super::Subject;

fn file(n: i64, bytes: u64) -> FileInfo {
    FileInfo {
        id: format!("file-{n}"),
        name: "a.jsonl".to_owned(),
        purpose: if n % 2 == 0 { "batch" } else { "user_data" }.to_owned(),
        bytes,
        created_at: UnixMillis(n),
        expires_at: None,
    }
}

const PLENTY: u64 = 1 << 30;

pub async fn a_file_is_its_tenants_until_it_is_deleted_or_expires(on: &Subject) {
    let s = &*on.files().await;
    let (gold, other, now) = ("gold".into(), "other".into(), UnixMillis(50));
    let mut brief = file(3, 5);
    brief.expires_at = Some(UnixMillis(40));
    for (tenant, f, content) in [
        (&gold, &file(1, 5), "first"),
        (&gold, &file(2, 5), "first"),
        (&other, &file(9, 5), "first"),
        (&gold, &brief, "brief"),
    ] {
        s.put(tenant, f, content.into(), PLENTY).await.unwrap();
    }
    assert_eq!(s.get(&gold, "file-3", UnixMillis(39)).await.unwrap(), Some(brief));
    assert_eq!(s.get(&gold, "file-3", now).await.unwrap(), None, "it has expired");
    assert_eq!(s.get(&gold, "file-9", now).await.unwrap(), None, "it is another's");
    assert!(!s.delete(&gold, "file-9", now).await.unwrap());
    assert!(s.delete(&gold, "file-1", now).await.unwrap());
    assert!(!s.delete(&gold, "file-1", now).await.unwrap());
    // Equal contents are kept once, and stay for those that have them.
    for (tenant, n) in [(&gold, 2), (&other, 9)] {
        let (info, content) = s.read(tenant, &format!("file-{n}"), now).await.unwrap().unwrap();
        assert_eq!((info, &content[..]), (file(n, 5), b"first".as_slice()));
    }
}

pub async fn files_are_listed_by_pages_in_their_order(on: &Subject) {
    let s = &*on.files().await;
    let (gold, now) = ("gold".into(), UnixMillis(50));
    for n in 1..=5 {
        s.put(&gold, &file(n, 1), format!("{n}").into(), PLENTY).await.unwrap();
    }
    s.put(&"other".into(), &file(7, 1), "7".into(), PLENTY).await.unwrap();
    let all = FilePage { purpose: None, after: None, limit: 2, ascending: false };
    let of = async |page: &FilePage| {
        let (files, more) = s.list(&gold, page, now).await.unwrap();
        (files.into_iter().map(|f| f.created_at.0).collect::<Vec<_>>(), more)
    };
    assert_eq!(of(&all).await, (vec![5, 4], true));
    assert_eq!(of(&FilePage { after: Some("file-4".into()), ..all.clone() }).await, (vec![3, 2], true));
    assert_eq!(of(&FilePage { after: Some("file-2".into()), ..all.clone() }).await, (vec![1], false));
    assert_eq!(
        of(&FilePage { ascending: true, limit: 5, ..all.clone() }).await,
        (vec![1, 2, 3, 4, 5], false)
    );
    let batch = FilePage { purpose: Some("batch".into()), ..all.clone() };
    assert_eq!(of(&batch).await, (vec![4, 2], false));
    assert_eq!(of(&FilePage { after: Some("file-7".into()), ..all }).await, (vec![], false));
}

pub async fn a_tenant_never_holds_more_than_its_limit(on: &Subject) {
    let s = &*on.files().await;
    let (gold, other) = ("gold".into(), "other".into());
    let put = async |tenant, n: i64, bytes: usize| {
        s.put(tenant, &file(n, bytes as u64), vec![n as u8; bytes].into(), 20_000).await
    };
    put(&gold, 1, 12_000).await.unwrap();
    let full = put(&gold, 2, 12_000).await.unwrap_err();
    assert!(matches!(full, Error::FilesFull { limit: 20_000 }), "{full}");
    put(&other, 3, 12_000).await.unwrap();
    // A small file counts as a page, so that the number of files is bounded too.
    put(&gold, 4, 1).await.unwrap();
    assert!(put(&gold, 5, 4_000).await.is_err());
    s.delete(&gold, "file-1", UnixMillis(50)).await.unwrap();
    put(&gold, 6, 12_000).await.unwrap();
}

pub async fn a_file_that_is_written_piece_by_piece_is_there_when_it_is_whole(on: &Subject) {
    let s = &*on.files().await;
    let (gold, now) = ("gold".into(), UnixMillis(50));
    let mut writer = s.create(&gold).await.unwrap();
    for piece in ["one ", "two ", "three"] {
        writer.write(piece.into()).await.unwrap();
    }
    assert!(
        s.list(&gold, &FilePage { purpose: None, after: None, limit: 9, ascending: true }, now)
            .await
            .unwrap()
            .0
            .is_empty()
    );
    writer.finish(file(1, 0)).await.unwrap();
    let (info, content) = s.read(&gold, "file-1", now).await.unwrap().unwrap();
    assert_eq!((info.bytes, &*content), (13, &b"one two three"[..]));
    for (from, most, piece) in [(0, 5, "one t"), (5, 5, "wo th"), (10, 99, "ree"), (13, 9, ""), (99, 9, "")] {
        let read = s.read_at(&gold, "file-1", from, most, now).await.unwrap();
        assert_eq!(read.as_deref(), Some(piece.as_bytes()), "{from}");
    }
    assert_eq!(s.read_at(&"other".into(), "file-1", 0, 9, now).await.unwrap(), None);
    // One of the same id takes its place; one that is dropped leaves nothing.
    let mut again = s.create(&gold).await.unwrap();
    again.write("four".into()).await.unwrap();
    again.finish(file(1, 0)).await.unwrap();
    s.create(&gold).await.unwrap().write("five".into()).await.unwrap();
    assert_eq!(&*s.read(&gold, "file-1", now).await.unwrap().unwrap().1, b"four");
    assert_eq!(s.held(&gold, now).await.unwrap(), 4096);
}

pub async fn files_put_at_once_are_no_more_than_a_tenant_may_hold(on: &Subject) {
    let s = &*on.files().await;
    let gold = "gold".into();
    let files: Vec<FileInfo> = (1..=10).map(|n| file(n, 12_000)).collect();
    // Half of them have the same content.
    let puts = files.iter().map(|f| s.put(&gold, f, vec![(f.created_at.0 % 2) as u8; 12_000].into(), 50_000));
    let put = join_all(puts).await;
    assert_eq!(put.iter().filter(|p| p.is_ok()).count(), 4);
    assert!(put.iter().filter_map(|p| p.as_ref().err()).all(|e| matches!(e, Error::FilesFull { .. })));
    assert_eq!(s.held(&gold, UnixMillis(50)).await.unwrap(), 48_000);
}

pub async fn a_large_file_is_read_from_anywhere_and_goes_when_it_expires(on: &Subject) {
    let s = &*on.files().await;
    let (gold, now) = ("gold".into(), UnixMillis(50));
    let content: Vec<u8> = (0..1_500_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = s.create(&gold).await.unwrap();
    for piece in content.chunks(70_001) {
        writer.write(piece.to_vec().into()).await.unwrap();
    }
    writer.finish(FileInfo { expires_at: Some(UnixMillis(60)), ..file(1, 0) }).await.unwrap();
    assert_eq!(&s.read(&gold, "file-1", now).await.unwrap().unwrap().1[..], &content[..]);
    for (from, most) in [(0, 10), (262_140, 9), (262_144, 262_144), (499_999, 700_000), (1_499_990, 99)] {
        let read = s.read_at(&gold, "file-1", from as u64, most, now).await.unwrap().unwrap();
        assert_eq!(&read[..], &content[from..content.len().min(from + most)], "{from}");
    }
    assert_eq!(
        (s.expire(UnixMillis(59), 9).await.unwrap(), s.expire(UnixMillis(60), 9).await.unwrap()),
        (0, 1)
    );
    assert_eq!(s.read_at(&gold, "file-1", 0, 9, now).await.unwrap(), None);
    // What is equal to what went is kept anew.
    s.put(&gold, &file(2, 1_500_000), content.clone().into(), PLENTY).await.unwrap();
    assert_eq!(s.read(&gold, "file-2", now).await.unwrap().unwrap().1.len(), content.len());
}
