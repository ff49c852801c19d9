#!/usr/bin/env python3
"""A loopback upstream that says what reached it. Standard library only.
usage: origin.py PORT [--tls PEM]     (0: any; the first line on stdout is {"port": N})
  GET/POST /echo      JSON: method, path, headers as received (lets a test prove that no Proxy-Authorization
                      and no inbound token reached the upstream), body length and sha256
  GET      /sse?n=5&ms=200   n events, one each ms milliseconds, then the end
  GET      /status/NNN       that status (401 and 403 with WWW-Authenticate unless ?bare=1; 429 with Retry-After: 2)
  GET      /redirect?to=URL&code=307
"""
import hashlib, http.server, json, socketserver, ssl, sys, time, urllib.parse
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def _send(self, code, body=b"", ctype="application/json", **hdr):
        self.send_response(code); self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(len(body)))
        for k, v in hdr.items(): self.send_header(k.replace("_", "-"), v)
        self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        u = urllib.parse.urlsplit(self.path); q = dict(urllib.parse.parse_qsl(u.query))
        n = int(self.headers.get("Content-Length") or 0); body = self.rfile.read(n) if n else b""
        if u.path == "/sse":
            self.send_response(200); self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store"); self.send_header("Connection", "close"); self.end_headers()
            self.close_connection = True
            for i in range(int(q.get("n", 5))):
                self.wfile.write(f"id: {i}\nevent: message\ndata: {json.dumps({'i': i})}\n\n".encode()); self.wfile.flush()
                time.sleep(int(q.get("ms", 200)) / 1000)
            return
        if u.path.startswith("/status/"):
            code = int(u.path.rsplit("/", 1)[1]); h = {}
            if code in (401, 403) and "bare" not in q:
                h["WWW_Authenticate"] = 'Bearer error="%s"' % ("invalid_token" if code == 401 else "insufficient_scope")
            if code == 429 and "bare" not in q: h["Retry_After"] = "2"
            return self._send(code, b'{"error":"as asked"}', **h)
        if u.path == "/redirect":
            return self._send(int(q.get("code", 307)), b"", Location=q["to"])
        out = {"method": self.command, "path": self.path, "headers": [[k, v] for k, v in self.headers.items()],
               "body_len": len(body), "body_sha256": hashlib.sha256(body).hexdigest()}
        self._send(200, json.dumps(out).encode())
    do_POST = do_PUT = do_DELETE = do_GET
class S(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True; request_queue_size = 256
    def handle_error(self, *a): pass
s = S(("127.0.0.1", int(sys.argv[1])), H)
if "--tls" in sys.argv:
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[sys.argv.index("--tls") + 1])
    s.socket = c.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"port": s.server_address[1]}), flush=True)
s.serve_forever()
