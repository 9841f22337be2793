//! Artifacts in a folder.

use contract::TenantId;
use models::artifacts::{Artifact, ArtifactPath, Artifacts as _, Folder};

fn path(text: &str) -> ArtifactPath {
    ArtifactPath::new(text).unwrap()
}

async fn put(folder: &Folder, tenant: &TenantId, at: &str, content: &'static [u8]) {
    let mut writer = folder.create(tenant, &path(at)).await.unwrap();
    for piece in content.chunks(3) {
        writer.write(bytes::Bytes::from_static(piece)).await.unwrap();
    }
    writer.finish().await.unwrap();
}

async fn read(folder: &Folder, tenant: &TenantId, at: &str) -> Option<Vec<u8>> {
    let mut reader = folder.open(tenant, &path(at)).await.unwrap()?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    assert_eq!(reader.bytes(), u64::try_from(all.len()).unwrap());
    Some(all)
}

#[tokio::test]
async fn an_artifact_is_there_whole_or_not_at_all_and_its_tenants_alone() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("artifacts"));
    let (gold, other) = (TenantId::from("gold"), TenantId::from("../gold"));
    put(&folder, &gold, "0/r/model/MLmodel", b"flavors: {}").await;
    assert_eq!(read(&folder, &gold, "0/r/model/MLmodel").await.unwrap(), b"flavors: {}");
    assert_eq!(read(&folder, &other, "0/r/model/MLmodel").await, None);
    assert_eq!(read(&folder, &gold, "0/r/model").await, None, "a folder is no file");
    put(&folder, &gold, "0/r/model/MLmodel", b"new").await;
    assert_eq!(read(&folder, &gold, "0/r/model/MLmodel").await.unwrap(), b"new");
    let mut dropped = folder.create(&gold, &path("0/r/half")).await.unwrap();
    dropped.write("half".into()).await.unwrap();
    drop(dropped);
    assert_eq!(read(&folder, &gold, "0/r/half").await, None);
    assert_eq!(std::fs::read_dir(root.path().join("artifacts/parts")).unwrap().count(), 0);
    assert!(folder.create(&gold, &path("0/r/model")).await.is_err());
    put(&folder, &gold, "0/r/empty", b"").await;
    let listed = folder.list(&gold, &path("0/r")).await.unwrap();
    let of = |name: &str, bytes| Artifact { name: name.to_owned(), bytes };
    assert_eq!(listed, [of("empty", Some(0)), of("model", None)]);
    assert!(folder.list(&gold, &path("nothing")).await.unwrap().is_empty());
    assert!(folder.remove(&gold, &path("0/r/model")).await.unwrap());
    assert!(!folder.remove(&gold, &path("0/r/model")).await.unwrap());
    assert!(folder.remove(&gold, &path("")).await.is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_somebody_put_there_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().to_owned());
    let gold = TenantId::from("gold");
    put(&folder, &gold, "a/x", b"1").await;
    std::fs::write(root.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(root.path(), root.path().join("t-gold/a/out")).unwrap();
    assert!(folder.open(&gold, &path("a/out/secret")).await.is_err());
    assert!(folder.create(&gold, &path("a/out/new")).await.is_err());
    assert!(folder.list(&gold, &path("a")).await.unwrap().iter().all(|a| a.name != "out"));
}

#[tokio::test]
async fn what_a_dead_process_had_half_written_goes_at_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().to_owned());
    std::fs::create_dir_all(root.path().join("parts")).unwrap();
    std::fs::write(root.path().join("parts/1-0"), "half").unwrap();
    folder.clear().unwrap();
    assert!(!root.path().join("parts").exists());
    folder.clear().unwrap();
}
