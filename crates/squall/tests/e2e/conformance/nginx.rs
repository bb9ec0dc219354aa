//! nginx as it comes, in front of the same server, for comparison.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Protocol;

pub(super) struct Nginx {
    child: Child,
    http1: SocketAddr,
    http2: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// Fails the test when nginx is missing: a comparison was asked for.
    pub(super) fn start(origin: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (http1, http2) = (free(), free());
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
                fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi;
                scgi_temp_path {path}/scgi;
                upstream origin {{ server {origin}; keepalive 8; }}
                server {{
                    listen {http1};
                    listen {http2} http2;
                    server_name conformance.localhost;
                    location / {{
                        proxy_pass http://origin;
                        proxy_http_version 1.1;
                        proxy_set_header Connection \"\";
                        proxy_set_header Host $host;
                        proxy_set_header X-Forwarded-For $remote_addr;
                    }}
                }}
            }}"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx must be installed to compare with it");
        let started = Instant::now();
        while TcpStream::connect(http1).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "nginx does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, http1, http2, _folder: folder }
    }

    pub(super) fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Http1 => self.http1,
            Protocol::Http2 => self.http2,
        }
    }

    pub(super) fn version(&self) -> String {
        let said = Command::new("nginx").arg("-v").output().unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        said.rsplit('/').next().unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
