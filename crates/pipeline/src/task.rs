//! The only place that spawns. A task is owned by a handle and ends with it, so that nothing outlives the request,
//! the run or the server it works for.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{Clock, Deadline, Tick};
use pin_project_lite::pin_project;
use tokio::sync::Semaphore;

/// The task panicked or was ended with its runtime.
#[derive(Debug, thiserror::Error)]
#[error("the task `{name}` stopped before its end")]
pub struct Crashed {
    /// The task's name.
    pub name: &'static str,
}

/// The deadline passed first; the future was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// A running task. Dropping the handle ends the task at its next wait.
#[derive(Debug)]
#[must_use = "dropping a task ends it"]
pub struct Task<T> {
    /// `None` once detached.
    handle: Option<tokio::task::JoinHandle<T>>,
    name: &'static str,
}

impl<T> Task<T> {
    /// Lets the task go on without an owner: only for work that bounds itself, such as a connection that ends with
    /// its peer.
    pub fn detach(mut self) {
        self.handle = None;
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(h) = &self.handle {
            h.abort();
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Crashed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        match &mut self.handle {
            Some(h) => Pin::new(h).poll(cx).map(|r| r.map_err(|_| Crashed { name })),
            None => Poll::Ready(Err(Crashed { name })),
        }
    }
}

/// Starts a task on the current runtime.
#[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    fut: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    Task { handle: Some(tokio::spawn(fut)), name }
}

/// Starts work that bounds itself and that nobody owns; outside of a runtime, as when one is being torn down, nothing happens.
pub fn beside(name: &'static str, fut: impl Future<Output = ()> + Send + 'static) {
    if tokio::runtime::Handle::try_current().is_ok() {
        spawn(name, fut).detach();
    }
}

/// How long a task that crashed is waited with before it begins anew.
const ANEW: Duration = Duration::from_secs(1);

/// Starts a task that has to be there for as long as its owner is: one that panics is begun anew after a second.
pub fn kept<T, F>(name: &'static str, mut make: impl FnMut() -> F + Send + 'static) -> Task<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    spawn(name, async move {
        loop {
            match spawn(name, make()).await {
                Ok(ended) => return ended,
                Err(crashed) => tracing::error!(error = %crashed, "it is begun anew"),
            }
            sleep(ANEW).await;
        }
    })
}

/// How many tasks of the current runtime have not ended: a server that leaks one shows it here. 0 outside of one.
pub fn alive() -> usize {
    tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks())
}

thread_local! {
    /// The thread is one of a [`Background`].
    static BEHIND: Cell<bool> = const { Cell::new(false) };
}

/// As many as there are cores: more would only share them, and each would end last. Work behind has turns of its own, so that an
/// answer never waits for a table to be read.
fn cores() -> Arc<Semaphore> {
    fn all() -> Arc<Semaphore> {
        let count = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Arc::new(Semaphore::new(count))
    }
    static CORES: LazyLock<[Arc<Semaphore>; 2]> = LazyLock::new(|| [all(), all()]);
    let [before, behind] = &*CORES;
    Arc::clone(if BEHIND.get() { behind } else { before })
}

/// Threads for work that nobody waits for with each step of it, beside those that answer callers: they yield to these, and so do the
/// threads and processes that the work starts. Dropped, it ends what runs on it at its next wait.
#[derive(Debug)]
pub struct Background {
    behind: Behind,
    /// Taken by the drop alone.
    runtime: Option<tokio::runtime::Runtime>,
}

/// The way to a [`Background`], for as long as that is there.
#[derive(Debug, Clone)]
pub struct Behind(tokio::runtime::Handle);

impl Background {
    /// So many threads, or as many as there are cores. Each first runs `begin`, which makes it yield.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(name: &'static str, threads: Option<usize>, begin: fn()) -> std::io::Result<Background> {
        let begin = move || {
            BEHIND.set(true);
            begin();
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = threads {
            builder.worker_threads(threads);
        }
        let runtime = builder.thread_name(name).on_thread_start(begin).enable_all().build()?;
        Ok(Background { behind: Behind(runtime.handle().clone()), runtime: Some(runtime) })
    }

    /// The way to it.
    pub fn behind(&self) -> Behind {
        self.behind.clone()
    }

    /// The runtime itself, for whoever brings its own tasks.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.behind.0
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Behind {
    /// Starts a task there.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        fut: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task { handle: Some(self.0.spawn(fut)), name }
    }
}

/// Runs work that occupies a core aside, as soon as one is free, in the order of the calls. The work itself cannot be
/// interrupted: it must be bounded. Dropped before its turn, it does not run.
pub async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Crashed> {
    let core = cores().acquire_owned().await;
    let work = move || {
        // Held until the work ends, also when nobody waits for it any more.
        let _core = core;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Crashed { name })
}

/// Runs work that waits for files aside. It holds no core, and goes on when nobody waits for it any more: whoever calls bounds
/// how many there are.
pub async fn reading<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Crashed> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Crashed { name })
}

/// Starts a thread for work that holds a core for as long as its owner wants: the owner tells it when to end, and a run that it is at
/// ends first.
///
/// # Errors
/// The system gives no thread.
pub fn thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Waits.
pub async fn sleep(d: Duration) {
    tokio::time::sleep(d).await;
}

/// For deadlines that no clock can name.
const FAR: Duration = Duration::from_secs(365 * 86_400);

pin_project! {
    /// See [`within`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Within<F> {
        #[pin]
        future: F,
        until: Option<tokio::time::Instant>,
        // Made at the first wait: most of what is given time needs none.
        #[pin]
        sleep: Option<tokio::time::Sleep>,
    }
}

/// Runs `future` until the deadline; dropping it is the cancellation. The time counts from this call on. (A struct, since a
/// future that an `async fn` takes by value lies in memory twice.)
pub fn within<F: Future>(clock: &dyn Clock, deadline: Deadline, future: F) -> Within<F> {
    let until = deadline.remaining(clock.now()).map(|left| {
        let now = tokio::time::Instant::now();
        // So far away that it is no moment: a year.
        now.checked_add(left).unwrap_or(now + FAR)
    });
    Within { future, until, sleep: None }
}

impl<F: Future> Future for Within<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let Some(until) = *this.until else { return Poll::Pending };
        if this.sleep.is_none() {
            this.sleep.set(Some(tokio::time::sleep_until(until)));
        }
        match this.sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    }
}

/// The runtime's own time line: under tokio's paused clock in tests, time moves only when every task waits.
#[derive(Debug, Clone, Copy)]
pub struct RuntimeClock {
    origin: tokio::time::Instant,
    wall: contract::UnixMillis,
}

impl RuntimeClock {
    /// A clock that starts now, with its wall time at `wall`.
    pub fn starting_at(wall: contract::UnixMillis) -> Self {
        RuntimeClock { origin: tokio::time::Instant::now(), wall }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Tick {
        Tick(0).after(tokio::time::Instant::now().saturating_duration_since(self.origin))
    }

    fn wall(&self) -> contract::UnixMillis {
        let since = i64::try_from(self.now().since(Tick(0)).as_millis()).unwrap_or(i64::MAX);
        contract::UnixMillis(self.wall.0.saturating_add(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_ends_when_its_handle_is_dropped() {
        let ended = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(ended.clone());
        let task = spawn("forever", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        drop(task);
        tokio::task::yield_now().await;
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_kept_begins_anew_when_it_crashes_and_ends_with_its_owner() {
        let begun = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let (of_it, ended) = (begun.clone(), Arc::new(AtomicBool::new(false)));
        let on_drop = ended.clone();
        let task = kept("frail", move || {
            let (n, on_drop) = (of_it.fetch_add(1, Ordering::SeqCst), on_drop.clone());
            async move {
                assert!(n >= 2, "crashes on purpose");
                let _set = SetOnDrop(on_drop);
                std::future::pending::<()>().await;
            }
        });
        sleep(ANEW * 5).await;
        assert_eq!(begun.load(Ordering::SeqCst), 3);
        drop(task);
        sleep(ANEW).await;
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_counted_until_it_ends() {
        let before = alive();
        let (one, two) = (spawn("one", std::future::pending::<()>()), spawn("two", async {}));
        assert_eq!(alive(), before + 2);
        two.await.unwrap();
        assert_eq!(alive(), before + 1);
        drop(one);
        tokio::task::yield_now().await;
        assert_eq!(alive(), before);
        assert_eq!(std::thread::spawn(alive).join().unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_passed_deadline_drops_the_work() {
        let clock = RuntimeClock::starting_at(contract::UnixMillis(0));
        let deadline = Deadline::from_now(clock.now(), Duration::from_millis(50));
        let ended = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(ended.clone());
        let work = async move {
            let _guard = guard;
            sleep(Duration::from_secs(60)).await;
        };
        assert_eq!(within(&clock, deadline, work).await, Err(Elapsed));
        assert!(ended.load(Ordering::SeqCst));
        assert!(deadline.passed(clock.now()));
    }

    /// The cores of callers are all taken, for as long as the value is held.
    async fn all_cores() -> Vec<tokio::sync::OwnedSemaphorePermit> {
        let free = cores().available_permits();
        let mut held = Vec::new();
        for _ in 0..free {
            held.push(cores().acquire_owned().await.unwrap());
        }
        held
    }

    #[tokio::test]
    async fn work_behind_has_threads_and_turns_of_its_own() {
        static YIELDED: AtomicBool = AtomicBool::new(false);
        let background = Background::start("behind", None, || YIELDED.store(true, Ordering::SeqCst)).unwrap();
        let behind = background.behind();
        let _held = all_cores().await;
        let named = || std::thread::current().name().map(str::to_owned);
        let there = behind.spawn("there", async move { (named(), blocking("core", named).await.unwrap()) });
        assert_eq!(there.await.unwrap(), (Some("behind".to_owned()), Some("behind".to_owned())));
        assert!(YIELDED.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn work_behind_ends_when_its_handle_is_dropped() {
        let background = Background::start("behind", None, || ()).unwrap();
        let behind = background.behind();
        let (ended, over) = tokio::sync::oneshot::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let task = behind.spawn("forever", async move {
            let _held = ended;
            begin.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        begun.await.unwrap();
        drop(task);
        assert!(over.await.is_err());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_task_alone() {
        let task = spawn("boom", async { assert_eq!(1, 2, "on purpose") });
        assert_eq!(task.await.map_err(|c| c.name), Err("boom"));
    }
}
