//! Connections: accepting them, bounding them, and letting them end.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::config::Config;
use super::front::Front;
use super::patient::Patient;

/// Serves until a signal to stop came and calls in progress have ended, or their time is over.
pub(super) async fn serve(listener: TcpListener, front: Arc<Front>, config: &Config) -> std::io::Result<()> {
    let mut stop = Signals::new()?;
    let seats = Arc::new(Semaphore::new(config.max_connections));
    let graceful = Arc::new(GracefulShutdown::new());
    let (stopping, running) = watch::channel(());
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(config.head_timeout.0);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    let server = Arc::new(server);

    loop {
        let next = async {
            // A connection over the bound waits in the listener's queue.
            let seat = seats.clone().acquire_owned().await.ok();
            (seat, listener.accept().await)
        };
        let (seat, accepted) = tokio::select! {
            () = stop.came() => break,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of file handles, most likely: those in use have to be given back first.
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (front, server, graceful) = (front.clone(), server.clone(), Arc::downgrade(&graceful));
        let mut running = running.clone();
        let (head, body) = (config.head_timeout.0, config.body_timeout.0);
        tokio::spawn(async move {
            let _seat = seat;
            let _ = stream.set_nodelay(true);
            if !begins(&stream, head, &mut running).await {
                return;
            }
            let answer = service_fn(move |request| front.clone().answer(request));
            let connection = server.serve_connection(TokioIo::new(Patient::new(stream, head, body)), answer);
            // Dropped before it is waited for, so that only connections hold up the end.
            let Some(watcher) = graceful.upgrade().map(|graceful| graceful.watcher()) else { return };
            // A connection that breaks has nobody left to tell.
            let _ = watcher.watch(connection).await;
        });
    }

    drop((listener, stopping));
    let deadline = Instant::now() + config.stop_timeout.0;
    let end = async {
        if let Ok(graceful) = unwrap(graceful).await {
            graceful.shutdown().await;
        }
        // Calls whose callers have left are paid already, and their answers worth keeping.
        while front.books.cache.as_ref().is_some_and(|cache| cache.stats().flights > 0) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = timeout_at(deadline, end) => {}
        // Somebody is in a hurry.
        () = stop.came() => {}
    }
    Ok(())
}

/// True once the client has said something.
async fn begins(stream: &TcpStream, longest: Duration, running: &mut watch::Receiver<()>) -> bool {
    tokio::select! {
        readable = timeout(longest, stream.readable()) => matches!(readable, Ok(Ok(()))),
        _ = running.changed() => false,
    }
}

/// The only owner's value; a task that is just about to begin may hold it for a moment.
async fn unwrap(mut shared: Arc<GracefulShutdown>) -> Result<GracefulShutdown, ()> {
    for _ in 0..100 {
        match Arc::try_unwrap(shared) {
            Ok(value) => return Ok(value),
            Err(again) => shared = again,
        }
        sleep(Duration::from_millis(1)).await;
    }
    Err(())
}

/// Signals to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(unix)]
    async fn came(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn came(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
