#!/usr/bin/env python3
"""An MCP-shaped upstream that misbehaves on demand, on 127.0.0.1. Standard library only.
usage: faultupstream.py PORT     (0: any; the first line on stdout is {"port": N})
  POST /mcp/FAULT     body: one JSON-RPC message. FAULT is one of those listed by GET /faults; /mcp/ok answers properly.
  GET  /journal       every message received, in order: fault, id, method, token (last 4 characters), executed (bool), t.
                      A test asserts from it what was sent once, twice or never.      GET /reset empties it.
  Parameters go in the query: ms (delay), n (count or bytes), good (comma list of tokens accepted by `tokens`).
"""
import asyncio, gzip, json, socket, struct, sys, time, urllib.parse
J = []; SEQ = 0
def rst(w):
    s = w.get_extra_info("socket"); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); w.transport.abort()
def result(mid, **extra): return json.dumps({"jsonrpc": "2.0", "id": mid, "result": {"content": [{"type": "text", "text": "ok"}], **extra}}).encode()
def ev(data, **f): return b"".join(f"{k}: {v}\n".encode() for k, v in f.items()) + b"data: " + data + b"\n\n"
def head(code, ctype="application/json", length=None, *extra):
    return (f"HTTP/1.1 {code}\r\n" + (f"Content-Type: {ctype}\r\n" if ctype else "") + (f"Content-Length: {length}\r\n" if length is not None else "") + "".join(h + "\r\n" for h in extra) + "\r\n").encode()
SSE = lambda *x: head("200 OK", "text/event-stream", None, "Cache-Control: no-store", "Connection: close", *x)
PLAIN = {  # fault -> (status, extra headers)
 "400": ("400 Bad Request", ()), "404": ("404 Not Found", ()), "405": ("405 Method Not Allowed", ("Allow: GET",)), "408": ("408 Request Timeout", ()),
 "413": ("413 Content Too Large", ()), "421": ("421 Misdirected Request", ()), "425": ("425 Too Early", ()),
 "500": ("500 Internal Server Error", ()), "502": ("502 Bad Gateway", ()), "503": ("503 Service Unavailable", ()), "503-retry-after": ("503 Service Unavailable", ("Retry-After: 2",)), "504": ("504 Gateway Timeout", ()),
 "429": ("429 Too Many Requests", ()), "429-retry-after": ("429 Too Many Requests", ("Retry-After: 2",)), "429-date": ("429 Too Many Requests", ("Retry-After: Fri, 31 Dec 2999 23:59:59 GMT",)), "429-garbage": ("429 Too Many Requests", ("Retry-After: soon",)), "429-negative": ("429 Too Many Requests", ("Retry-After: -5",)), "429-huge": ("429 Too Many Requests", ("Retry-After: 99999999999999999999",)),
 "401": ("401 Unauthorized", ('WWW-Authenticate: Bearer error="invalid_token"',)), "401-bare": ("401 Unauthorized", ()), "401-basic": ("401 Unauthorized", ('WWW-Authenticate: Basic realm="x"',)), "401-ssrf": ("401 Unauthorized", ('WWW-Authenticate: Bearer resource_metadata="http://169.254.169.254/latest/"',)),
 "401-crlf-echo": ("401 Unauthorized", ('WWW-Authenticate: Bearer realm="\x01\x7f\x9b31m"',)),
 "403-scope": ("403 Forbidden", ('WWW-Authenticate: Bearer error="insufficient_scope", scope="files:write"',)), "403-bare": ("403 Forbidden", ()),
}
for c in (301, 302, 303, 307, 308):
    PLAIN[f"{c}-same"] = (f"{c} Redirect", ("Location: /mcp/ok",)); PLAIN[f"{c}-cross"] = (f"{c} Redirect", ("Location: http://localhost:{port}/mcp/ok",))
PLAIN.update({"redirect-loop": ("307 Temporary Redirect", ("Location: /mcp/redirect-loop",)), "redirect-file": ("302 Found", ("Location: file:///etc/passwd",)), "redirect-metadata": ("302 Found", ("Location: http://169.254.169.254/",)), "redirect-noloc": ("307 Temporary Redirect", ())})
RAW = ["ok", "ok-sse", "tokens", "drop-before-read", "rst-before-read", "close-after-read", "rst-after-read", "close-mid-headers", "slow-headers", "slow-body", "hang", "half-close",
 "garbage-json", "empty-200", "202-for-request", "204-for-request", "wrong-ctype", "no-ctype", "html-200", "huge-body", "endless-body", "truncated-length", "excess-length", "chunk-truncated", "chunk-bad-size", "chunk-huge-size", "http10-close", "http09",
 "sse-cut-mid-event", "sse-no-response", "sse-endless", "sse-silent", "sse-huge-event", "sse-endless-line", "sse-crlf-bom", "sse-cr-only", "sse-garbage-data", "sse-rst", "sse-split-utf8", "sse-comment-flood", "sse-two-responses", "sse-request-to-client", "sse-after-response",
 "wrong-id", "id-retyped", "null-id", "batch", "dup-keys", "deep-json", "big-number", "bad-utf8", "lone-surrogate", "isError",
 "gzip-ok", "gzip-bomb", "cl-te", "dup-cl-differ", "dup-cl-same", "negative-cl", "obs-fold", "huge-header", "many-headers", "header-nul", "1xx-then-200", "101-switch", "early-401", "keepalive-then-rst", "extra-response", "session-404", "jsonrpc-auth-error"]
async def body_of(r, h):
    if "chunked" in h.get("transfer-encoding", ""):
        out = b""
        while n := int((await r.readline()).split(b";")[0], 16): out += await r.readexactly(n); await r.readline()
        await r.readline(); return out
    return await r.readexactly(int(h.get("content-length", 0)))
async def serve(r, w, port):
    global SEQ
    try:
        while True:
            raw = await r.readuntil(b"\r\n\r\n"); lines = raw.decode("latin1").split("\r\n"); meth, target, _ = lines[0].split(" ", 2)
            h = {k.lower(): v.strip() for k, v in (l.split(":", 1) for l in lines[1:] if ":" in l)}
            u = urllib.parse.urlsplit(target); q = dict(urllib.parse.parse_qsl(u.query)); ms = int(q.get("ms", 300)) / 1000; n = int(q.get("n", 0))
            if u.path in ("/journal", "/reset", "/faults"):
                if u.path == "/reset": J.clear()
                b = json.dumps(sorted(set(PLAIN) | set(RAW)) if u.path == "/faults" else J).encode(); w.write(head("200 OK", "application/json", len(b)) + b); await w.drain(); continue
            f = u.path.rsplit("/", 1)[-1]
            if meth != "POST":
                b = b'{"error":"POST only"}'; w.write(head("405 Method Not Allowed", "application/json", len(b), "Allow: POST") + b); await w.drain(); continue
            tok = h.get("authorization", "").removeprefix("Bearer ")
            rec = {"n": SEQ, "fault": f, "id": None, "method": None, "token": tok[-4:], "executed": False, "t": round(time.time(), 3), "headers": sorted(h)}; SEQ += 1; J.append(rec)
            if f == "drop-before-read": return
            if f == "rst-before-read": return rst(w)
            if f == "early-401":   # answers before the body is read, then closes: the classic reset race
                w.write(head("401 Unauthorized", "application/json", 2, "Connection: close", 'WWW-Authenticate: Bearer error="invalid_token"') + b"{}"); await w.drain(); return
            body = await body_of(r, h)
            try: msg = json.loads(body); mid = msg.get("id"); rec.update(id=mid, method=msg.get("method"))
            except Exception: mid = None
            if f == "tokens":
                if tok not in q.get("good", "").split(","): w.write(head("401 Unauthorized", "application/json", 2, 'WWW-Authenticate: Bearer error="invalid_token"') + b"{}"); await w.drain(); continue
                f = "ok"
            if f in PLAIN:
                s, x = PLAIN[f]; b = json.dumps({"jsonrpc": "2.0", "id": mid, "error": {"code": -32603, "message": "as asked"}}).encode() if q.get("json") else b"{}"
                w.write(head(s, "application/json", len(b), *(e.format(port=port) for e in x)) + b); await w.drain(); continue
            rec["executed"] = f not in ("jsonrpc-auth-error", "session-404"); ok = result(mid); J_ = lambda b, *x: head("200 OK", "application/json", len(b), *x) + b
            if "id" not in (msg if isinstance(msg, dict) else {}) and f in ("ok", "ok-sse"): w.write(head("202 Accepted", None, 0)); await w.drain(); continue
            if f == "ok": w.write(J_(ok))
            elif f == "ok-sse":
                w.write(SSE())
                for i in range(n or 3): w.write(ev(json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": i}}).encode(), id=i)); await w.drain(); await asyncio.sleep(ms)
                w.write(ev(ok)); await w.drain(); return
            elif f == "close-after-read": return
            elif f == "rst-after-read": return rst(w)
            elif f == "close-mid-headers": w.write(b"HTTP/1.1 200 OK\r\nContent-Ty"); await w.drain(); return
            elif f == "slow-headers":
                for c in head("200 OK", "application/json", len(ok)): w.write(bytes([c])); await w.drain(); await asyncio.sleep(ms)
                w.write(ok)
            elif f == "slow-body":
                w.write(head("200 OK", "application/json", len(ok)))
                for c in ok: w.write(bytes([c])); await w.drain(); await asyncio.sleep(ms)
            elif f == "hang": await asyncio.sleep(3600)
            elif f == "half-close": w.write(head("200 OK", "application/json", len(ok)) + ok[:10]); await w.drain(); w.write_eof(); await asyncio.sleep(3600)
            elif f == "garbage-json": w.write(J_(b'{"jsonrpc":"2.0","id":1,"result":{'))
            elif f == "empty-200": w.write(J_(b""))
            elif f == "202-for-request": w.write(head("202 Accepted", None, 0))
            elif f == "204-for-request": w.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif f == "wrong-ctype": w.write(head("200 OK", "text/plain", len(ok)) + ok)
            elif f == "no-ctype": w.write(head("200 OK", None, len(ok)) + ok)
            elif f == "html-200": b = b"<html><script>alert(1)</script></html>"; w.write(head("200 OK", "text/html", len(b)) + b)
            elif f in ("huge-body", "endless-body"):
                total = n or 64 << 20; w.write(head("200 OK", "application/json", total if f == "huge-body" else None, *(() if f == "huge-body" else ("Connection: close",)))); sent = 0
                while sent < total: w.write(b" " * 65536); sent += 65536; await w.drain()
                return
            elif f == "truncated-length": w.write(head("200 OK", "application/json", len(ok) + 500) + ok); await w.drain(); return
            elif f == "excess-length": w.write(head("200 OK", "application/json", len(ok)) + ok + b"EXTRA")
            elif f == "extra-response": w.write(J_(ok) + J_(result("stolen")))
            elif f == "chunk-truncated": w.write(head("200 OK", "application/json", None, "Transfer-Encoding: chunked") + b"%x\r\n" % len(ok) + ok + b"\r\n"); await w.drain(); return
            elif f == "chunk-bad-size": w.write(head("200 OK", "application/json", None, "Transfer-Encoding: chunked") + b"zz\r\n" + ok + b"\r\n0\r\n\r\n"); await w.drain(); return
            elif f == "chunk-huge-size": w.write(head("200 OK", "application/json", None, "Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n" + ok + b"\r\n0\r\n\r\n"); await w.drain(); return
            elif f == "http10-close": w.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + ok); await w.drain(); return
            elif f == "http09": w.write(ok); await w.drain(); return
            elif f == "sse-cut-mid-event": w.write(SSE() + b"data: " + ok[:20]); await w.drain(); return
            elif f == "sse-rst": w.write(SSE() + ev(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}')); await w.drain(); await asyncio.sleep(.05); return rst(w)
            elif f == "sse-no-response": w.write(SSE() + ev(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}')); await w.drain(); return
            elif f == "sse-endless":
                w.write(SSE())
                while True: w.write(ev(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}')); await w.drain(); await asyncio.sleep(ms)
            elif f == "sse-silent": w.write(SSE()); await w.drain(); await asyncio.sleep(3600)
            elif f == "sse-comment-flood":
                w.write(SSE())
                for _ in range(n or 200000): w.write(b": keep-alive\n\n"); await w.drain()
                w.write(ev(ok)); await w.drain(); return
            elif f in ("sse-huge-event", "sse-endless-line"):
                w.write(SSE() + b"data: ")
                for _ in range((n or 64 << 20) >> 16): w.write(b"a" * 65536); await w.drain()
                if f == "sse-huge-event": w.write(b"\n\n"); await w.drain()
                else: await asyncio.sleep(3600)
                return
            elif f == "sse-crlf-bom": w.write(SSE() + b"\xef\xbb\xbfevent: message\r\nid: 1\r\nretry: 10\r\ndata: " + ok[:11] + b"\r\ndata: " + ok[11:] + b"\r\n\r\n"); await w.drain(); return
            elif f == "sse-cr-only": w.write(SSE() + b"event: message\rdata: " + ok + b"\r\r"); await w.drain(); return
            elif f == "sse-garbage-data": w.write(SSE() + ev(b"not json") + ev(ok)); await w.drain(); return
            elif f == "sse-split-utf8":
                d = ev(result(mid, x="\u00e9\U0001f600".encode().decode())); d = ev(json.dumps({"jsonrpc": "2.0", "id": mid, "result": {"t": "\u00e9\U0001f600"}}, ensure_ascii=False).encode()); w.write(SSE())
                for c in d: w.write(bytes([c])); await w.drain(); await asyncio.sleep(.002)
                return
            elif f == "sse-two-responses": w.write(SSE() + ev(ok) + ev(result(mid, second=True))); await w.drain(); return
            elif f == "sse-after-response": w.write(SSE() + ev(ok)); await w.drain(); await asyncio.sleep(3600)
            elif f == "sse-request-to-client": w.write(SSE() + ev(json.dumps({"jsonrpc": "2.0", "id": mid, "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}).encode()) + ev(ok)); await w.drain(); return
            elif f == "wrong-id": w.write(J_(result("other-client-id")))
            elif f == "id-retyped": w.write(J_(result(str(mid) if not isinstance(mid, str) else (int(mid) if mid.isdigit() else mid + "x"))))
            elif f == "null-id": w.write(J_(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}'))
            elif f == "batch": w.write(J_(b"[" + ok + b"]"))
            elif f == "dup-keys": w.write(J_(b'{"jsonrpc":"2.0","id":"evil","id":' + json.dumps(mid).encode() + b',"result":{},"error":{"code":1,"message":"both"}}'))
            elif f == "deep-json": d = n or 100000; w.write(J_(b'{"jsonrpc":"2.0","id":' + json.dumps(mid).encode() + b',"result":{"x":' + b"[" * d + b"]" * d + b"}}"))
            elif f == "big-number": w.write(J_(b'{"jsonrpc":"2.0","id":' + json.dumps(mid).encode() + b',"result":{"x":1e999999,"y":18446744073709551617,"z":0.1234567890123456789}}'))
            elif f == "bad-utf8": w.write(J_(b'{"jsonrpc":"2.0","id":' + json.dumps(mid).encode() + b',"result":{"x":"\xff\xfe\xc0\x80"}}'))
            elif f == "lone-surrogate": w.write(J_(b'{"jsonrpc":"2.0","id":' + json.dumps(mid).encode() + b',"result":{"x":"\\ud800"}}'))
            elif f == "isError": w.write(J_(result(mid, isError=True)))
            elif f == "jsonrpc-auth-error": w.write(J_(json.dumps({"jsonrpc": "2.0", "id": mid, "error": {"code": -32001, "message": "Unauthorized: token expired"}}).encode()))
            elif f == "session-404": b = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}'; w.write(head("404 Not Found", "application/json", len(b)) + b)
            elif f == "gzip-ok": b = gzip.compress(ok); w.write(J_(b, "Content-Encoding: gzip"))
            elif f == "gzip-bomb": b = gzip.compress(b" " * (n or 64 << 20), 9); w.write(J_(b, "Content-Encoding: gzip"))
            elif f == "cl-te": w.write(head("200 OK", "application/json", 3, "Transfer-Encoding: chunked") + b"%x\r\n" % len(ok) + ok + b"\r\n0\r\n\r\n")
            elif f == "dup-cl-differ": w.write(head("200 OK", "application/json", len(ok), "Content-Length: 1") + ok); await w.drain(); return
            elif f == "dup-cl-same": w.write(head("200 OK", "application/json", len(ok), f"Content-Length: {len(ok)}") + ok)
            elif f == "negative-cl": w.write(head("200 OK", "application/json", -1) + ok); await w.drain(); return
            elif f == "obs-fold": w.write(head("200 OK", "application/json", len(ok), "X-A: 1\r\n folded: 2") + ok)
            elif f == "huge-header": w.write(head("200 OK", "application/json", len(ok), "X-Pad: " + "a" * (n or 1 << 20)) + ok); await w.drain(); return
            elif f == "many-headers": w.write(head("200 OK", "application/json", len(ok), *(f"X-{i}: y" for i in range(n or 20000))) + ok); await w.drain(); return
            elif f == "header-nul": w.write(head("200 OK", "application/json", len(ok), "X-A: a\0b") + ok); await w.drain(); return
            elif f == "1xx-then-200": w.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + J_(ok))
            elif f == "101-switch": w.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\n" + ok); await w.drain(); return
            elif f == "keepalive-then-rst": w.write(J_(ok)); await w.drain(); await asyncio.sleep(ms); return rst(w)   # idle connection dies: stale-pool race
            else: b = b'{"error":"no such fault"}'; w.write(head("404 Not Found", "application/json", len(b)) + b)
            await w.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError): pass
    finally:
        try: w.close()
        except Exception: pass
async def main():
    sock = socket.socket(); sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); sock.bind(("127.0.0.1", int(sys.argv[1]))); port = sock.getsockname()[1]
    await asyncio.start_server(lambda r, w: serve(r, w, port), sock=sock, limit=1 << 20, backlog=1024); print(json.dumps({"port": port}), flush=True); await asyncio.Event().wait()
asyncio.run(main())
