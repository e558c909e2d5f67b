//! The server's end of one connection's stream: bytes in, events out, and the upgrade to TLS. What the events
//! mean is left to `login` and `session`.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mammoth_wire::header::{STREAM_END, response_header};
use mammoth_wire::limits::Limits;
use mammoth_wire::stream::{StreamEvent, StreamReader};
use mammoth_wire::stream_error::StreamError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// A connection, with or without TLS.
pub enum Io {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// Why a stream is over.
#[derive(Debug)]
pub enum End {
    /// The client closed it, or the connection broke.
    Gone,
    /// We close it, with this error.
    Error(StreamError),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Gone
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> End {
        End::Error(error)
    }
}

/// One half of a connection, and the stream in it. `R` is what is read from.
pub struct Stream<R> {
    /// The connection, or its reading half.
    pub io: R,
    /// The stream in it.
    pub reader: StreamReader,
    /// Whether our own header has been sent since the last restart.
    pub opened: bool,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    /// A stream that has not begun.
    pub fn new(io: R, limits: Limits) -> Stream<R> {
        Stream { io, reader: StreamReader::new(limits), opened: false }
    }

    /// The next event. Safe to drop and ask again: nothing read is lost.
    ///
    /// # Errors
    /// When the connection ends or the stream is not one.
    pub async fn event(&mut self) -> Result<StreamEvent, End> {
        loop {
            if let Some(event) = self.reader.next()? {
                return Ok(event);
            }
            if poll_fn(|context| self.poll_read(context)).await? == 0 {
                return Err(End::Gone);
            }
        }
    }

    /// Reads once; answers how much. A stream that waits holds no room for what may come: it is on the stack.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
        self.reader.push(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// The same stream in another half of the connection.
    pub fn map<S>(self, f: impl FnOnce(R) -> S) -> Stream<S> {
        Stream { io: f(self.io), reader: self.reader, opened: self.opened }
    }
}

impl Stream<Io> {
    /// Sends text at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.io.write_all(text.as_bytes()).await?;
        self.io.flush().await
    }

    /// Ends the stream as `end` has it, with our header first if it has not been sent.
    pub async fn end(mut self, end: End, domain: &str) {
        if let End::Error(error) = end {
            let mut last = String::new();
            if !self.opened {
                last.push_str(&response_header("", domain, None, "en"));
            }
            last.push_str(&error.to_xml());
            last.push_str(STREAM_END);
            let _ = self.send(&last).await;
        }
        let _ = self.io.shutdown().await;
    }
}
