//! Reading off the runtime, for so long and no longer: a file on a mount that hangs is waited for by one thread, not by the
//! server, nor by one thread more with each attempt.

use std::sync::Arc;
use std::time::Duration;

use pipeline::task;

/// What reads files. One at a time.
#[derive(Debug)]
pub(super) struct Bounded {
    within: Duration,
    /// Held by whatever is still reading.
    reading: Arc<()>,
}

impl Bounded {
    /// Each for at most `within`.
    pub(super) fn new(within: Duration) -> Self {
        Bounded { within, reading: Arc::default() }
    }

    /// What `read` gives.
    ///
    /// # Errors
    /// Why it gives nothing: it takes too long, the one before it still does, or it panicked.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if Arc::strong_count(&self.reading) > 1 {
            return Err(
                "a file of the configuration cannot be read: an earlier attempt still waits for it; \
                 check the file system that it is on"
                    .to_owned(),
            );
        }
        let reading = self.reading.clone();
        let work = task::reading("configuration", move || {
            let read = read();
            drop(reading);
            read
        });
        match tokio::time::timeout(self.within, work).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!(
                "the files of the configuration cannot be read within {:?}: check the file system that they are on",
                self.within
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_read_that_hangs_is_given_up_and_holds_one_thread_however_often_it_is_tried() {
        let files = Bounded::new(Duration::from_millis(20));
        let (release, hangs) = mpsc::sync_channel::<()>(1);
        let (begun, is_begun) = tokio::sync::oneshot::channel();
        let hung = files
            .read(move || {
                let _ = begun.send(());
                let _ = hangs.recv();
            })
            .await;
        assert!(hung.unwrap_err().contains("within 20ms"));
        is_begun.await.unwrap();
        assert!(files.read(|| ()).await.unwrap_err().contains("still waits"));
        drop(release);
        // The file system is back.
        while Arc::strong_count(&files.reading) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(files.read(|| 7).await, Ok(7));
    }
}
