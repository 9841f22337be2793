//! Artifacts in a folder.

use contract::TenantId;
use models::artifacts::{Artifacts as _, Folder};

use crate::keeps::{keeps, path, put};

#[tokio::test]
async fn an_artifact_is_there_whole_or_not_at_all_and_its_tenants_alone() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("artifacts"));
    keeps(&folder).await;
    assert_eq!(std::fs::read_dir(root.path().join("artifacts/parts")).unwrap().count(), 0);
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
