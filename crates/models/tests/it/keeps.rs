//! What every place of artifacts does: run for a folder here, and for a bucket by the program.

use contract::TenantId;
use models::artifacts::{Artifact, ArtifactPath, Artifacts};

pub fn path(text: &str) -> ArtifactPath {
    ArtifactPath::new(text).unwrap()
}

pub async fn put(folder: &dyn Artifacts, tenant: &TenantId, at: &str, content: &'static [u8]) {
    let mut writer = folder.create(tenant, &path(at)).await.unwrap();
    for piece in content.chunks(3) {
        writer.write(bytes::Bytes::from_static(piece)).await.unwrap();
    }
    writer.finish().await.unwrap();
}

pub async fn read(folder: &dyn Artifacts, tenant: &TenantId, at: &str) -> Option<Vec<u8>> {
    let mut reader = folder.open(tenant, &path(at)).await.unwrap()?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    assert_eq!(reader.bytes(), u64::try_from(all.len()).unwrap());
    Some(all)
}

/// What every place of artifacts does.
pub async fn keeps(folder: &dyn Artifacts) {
    let (gold, other) = (TenantId::from("gold"), TenantId::from("../gold"));
    put(folder, &gold, "0/r/model/MLmodel", b"flavors: {}").await;
    assert_eq!(read(folder, &gold, "0/r/model/MLmodel").await.unwrap(), b"flavors: {}");
    assert_eq!(read(folder, &other, "0/r/model/MLmodel").await, None);
    assert_eq!(read(folder, &gold, "0/r/model").await, None, "a folder is no file");
    put(folder, &gold, "0/r/model/MLmodel", b"new").await;
    assert_eq!(read(folder, &gold, "0/r/model/MLmodel").await.unwrap(), b"new");
    let mut dropped = folder.create(&gold, &path("0/r/half")).await.unwrap();
    dropped.write("half".into()).await.unwrap();
    drop(dropped);
    assert_eq!(read(folder, &gold, "0/r/half").await, None);
    assert!(folder.create(&gold, &path("0/r/model")).await.is_err(), "a folder takes no file's place");
    let below = async {
        let mut writer = folder.create(&gold, &path("0/r/model/MLmodel/below")).await?;
        writer.write("x".into()).await?;
        writer.finish().await
    };
    assert!(below.await.is_err(), "a file is no folder");
    put(folder, &gold, "0/r/empty", b"").await;
    let listed = folder.list(&gold, &path("0/r")).await.unwrap();
    let of = |name: &str, bytes| Artifact { name: name.to_owned(), bytes };
    assert_eq!(listed, [of("empty", Some(0)), of("model", None)]);
    assert!(folder.list(&gold, &path("nothing")).await.unwrap().is_empty());
    assert!(folder.remove(&gold, &path("0/r/model")).await.unwrap());
    assert!(!folder.remove(&gold, &path("0/r/model")).await.unwrap());
    assert!(folder.remove(&gold, &path("")).await.is_err());
}
