//! A server made by hand, that answers anything: by itself, or in front of a sandbox whose answers it spoils.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What is sent in answer to a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This, and then the connection is closed.
    Whole(String),
    /// This, and then nothing for ever.
    ThenSilence(String),
    /// A body that goes on until the client has had enough.
    Endless,
    /// The connection is reset; nobody behind it gets the request.
    Reset,
    /// What the sandbox behind it answers.
    Passed,
    /// The sandbox gets the request, and its answer is lost: the connection is reset.
    Lost,
    /// The first half of what the sandbox answers, and then the connection is closed.
    Half,
    /// The sandbox gets the request twice, and its second answer goes back.
    Repeated,
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn json(body: &str) -> Answer {
    Answer::Whole(ok(body))
}

pub(crate) fn status(status: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Whole(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"))
}

/// One answer for the metadata, one for everything else.
pub(crate) struct Server {
    base: String,
    shared: Arc<Shared>,
}

struct Shared {
    behind: Option<SocketAddr>,
    metadata: Mutex<Answer>,
    answer: Mutex<Answer>,
    grants: Mutex<Vec<String>>,
    requests: AtomicUsize,
    busy: AtomicUsize,
    silent: AtomicBool,
}

impl Server {
    /// By itself, with nothing to say.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, None, status("404 Not Found", ""))
    }

    /// In front of the server at `behind`, which it lets through.
    pub(crate) fn in_front_of(behind: SocketAddr, listener: TcpListener) -> Self {
        Self::serve(listener, Some(behind), Answer::Passed)
    }

    fn serve(listener: TcpListener, behind: Option<SocketAddr>, at_first: Answer) -> Self {
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            behind,
            metadata: Mutex::new(at_first.clone()),
            answer: Mutex::new(at_first),
            grants: Mutex::default(),
            requests: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                // A client that has had enough hangs up.
                tokio::spawn(async move { shared.attend(stream).await.ok() });
            }
        });
        Self { base, shared }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn issuer(&self) -> String {
        format!("{}/", self.base)
    }

    pub(crate) fn describes_itself(&self, answer: Answer) {
        *self.shared.metadata.lock().unwrap() = answer;
        self.shared.silent.store(false, Ordering::SeqCst);
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
        self.shared.silent.store(false, Ordering::SeqCst);
    }

    /// The assertions that came, in their order.
    pub(crate) fn grants(&self) -> Vec<String> {
        self.shared.grants.lock().unwrap().clone()
    }

    /// Requests that came, for the metadata and for tokens.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Whether a request is being answered; one that waits for ever is not.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.busy.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.shared.silent.load(Ordering::SeqCst)
    }
}

/// Counts a request as long as it is being answered.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn with(busy: &'a AtomicUsize) -> Self {
        busy.fetch_add(1, Ordering::SeqCst);
        Self(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    async fn attend(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        let mut length = 0;
        while stream.read_line(&mut head).await? > 2 {
            let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        if head.is_empty() {
            return Ok(());
        }
        let busy = Busy::with(&self.busy);
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if let Some((_, grant)) = url::form_urlencoded::parse(&body).find(|(name, _)| name == "assertion") {
            self.grants.lock().unwrap().push(grant.into_owned());
        }
        let is_metadata = head.starts_with("GET /.well-known/");
        let answer = if is_metadata { self.metadata.lock() } else { self.answer.lock() }.unwrap().clone();
        match answer {
            Answer::Whole(text) => self.last_words(stream, text.as_bytes()).await,
            Answer::ThenSilence(text) => {
                stream.write_all(text.as_bytes()).await?;
                self.silent.store(true, Ordering::SeqCst);
                drop(busy);
                std::future::pending().await
            }
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    stream.write_all(&[b' '; 16 << 10]).await?;
                }
            }
            Answer::Reset => stream.get_ref().set_zero_linger(),
            Answer::Passed => {
                let answer = self.behind(&head, &body).await?;
                self.last_words(stream, &answer).await
            }
            Answer::Lost => {
                self.behind(&head, &body).await?;
                stream.get_ref().set_zero_linger()
            }
            Answer::Half => {
                let answer = self.behind(&head, &body).await?;
                self.last_words(stream, &answer[..answer.len() / 2]).await
            }
            Answer::Repeated => {
                self.behind(&head, &body).await?;
                let answer = self.behind(&head, &body).await?;
                self.last_words(stream, &answer).await
            }
        }
    }

    async fn last_words(&self, mut stream: BufReader<TcpStream>, words: &[u8]) -> io::Result<()> {
        stream.write_all(words).await?;
        stream.shutdown().await
    }

    /// What the server behind this one answers.
    async fn behind(&self, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.behind.expect("a server behind this one")).await?;
        // One request to a connection, so that its end is the end of the answer.
        let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}
