#!/usr/bin/env python3
"""Proxies that misbehave, one port per fault, on 127.0.0.1. Standard library only.
usage: faultproxy.py [--closed] [--user NAME] [--password SECRET] [--other PORT]
The first line on stdout is {"port": N, "ports": {name: port}}. Every port is free at the start; N is for control:
  GET /         {"name": connections accepted}, so that a test can assert how often the gateway tried
  GET /reset    sets all to 0
  GET /heads    {"name": the head of the last HTTP request there}
  GET /open     with --closed the proxies refuse connections until this is asked, so that what a gateway tries at its
                start does not count
--user and --password are what http-407-basic and socks-needs-auth want; --other is where other-upstream leads.
"""
import argparse, asyncio, base64, json, os, socket, struct
P = argparse.ArgumentParser(); P.add_argument("--closed", action="store_true")
P.add_argument("--user", default="gw"); P.add_argument("--password", default="gw-secret-1"); P.add_argument("--other", type=int, default=9)
A = P.parse_args()
HTTP = """ok 407-basic 407-bare 407-digest 407-negotiate 407-always 401-basic 403 429-retry-after 502 503 504
 close-at-accept rst-at-accept close-mid-connect rst-mid-connect hang slow garbage huge-header endless-header
 200-content-length 200-chunked 100-then-200 302 early-bytes close-after-200 rst-in-tunnel half-close-in-tunnel
 slow-tunnel corrupt-tunnel http09 lf-only other-upstream 200-no-reason""".split()
SOCKS = ("ok no-acceptable auth-fail auth-fail-open auth-bad-version wrong-version http-answer close-greeting close-auth "
 "close-request truncated-reply hang-greeting hang-request slow bound-domain bound-ipv6 bad-atyp picks-unoffered "
 "early-bytes rst-in-tunnel needs-auth").split() + ["rep-%d" % i for i in range(1, 9)] + ["rep-255"]
NAMES = ["http-" + n for n in HTTP] + ["socks-" + n for n in SOCKS]
COUNT = dict.fromkeys(NAMES, 0); HEADS = {}
USER, PASS = A.user, A.password
BASIC = b"basic " + base64.b64encode(f"{USER}:{PASS}".encode())
OTHER = ("127.0.0.1", A.other)

def rst(w):
    s = w.get_extra_info("socket")
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); w.transport.abort()
async def drip(w, data, each=0.3):
    for b in data: w.write(bytes([b])); await w.drain(); await asyncio.sleep(each)
async def pump(r, w, hook=None):
    n = 0
    try:
        while d := await r.read(65536):
            n += len(d)
            if hook:
                d = await hook(d, n)
                if d is None: return
            w.write(d); await w.drain()
        if w.can_write_eof(): w.write_eof()
    except (OSError, RuntimeError): pass
async def tunnel(r, w, host, port, mode, prefix=b""):
    try: ur, uw = await asyncio.open_connection(host, port)
    except OSError: return False
    async def up_hook(d, n):
        if mode == "rst-in-tunnel" and n > 100: w.write(d[:50]); await w.drain(); rst(w); return None
        if mode == "half-close-in-tunnel": w.write(d[:20]); await w.drain(); w.write_eof(); return None
        if mode == "corrupt-tunnel": d = bytearray(d); d[len(d) // 2] ^= 0x55; return bytes(d)
        if mode == "slow-tunnel":
            for b in d: w.write(bytes([b])); await w.drain(); await asyncio.sleep(0.02)
            return b""
        return d
    if prefix: w.write(prefix); await w.drain()
    a = asyncio.create_task(pump(r, uw)); b = asyncio.create_task(pump(ur, w, up_hook))
    await asyncio.wait([a, b], return_when=asyncio.FIRST_COMPLETED if mode.endswith("in-tunnel") else asyncio.ALL_COMPLETED)
    if mode == "half-close-in-tunnel": await asyncio.sleep(30)
    a.cancel(); b.cancel(); uw.close(); return True
def resp(status, *headers, body=b"proxy says no"):
    return ("HTTP/1.1 %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, "".join(h + "\r\n" for h in headers), len(body))).encode() + body
async def http(name, r, w):
    m = name[5:]
    if m == "close-at-accept": return
    if m == "rst-at-accept": return rst(w)
    head = await r.readuntil(b"\r\n\r\n"); line = head.split(b"\r\n", 1)[0].decode("latin1").split(" ")
    HEADS[name] = head.decode("latin1")
    given = [v.strip() for k, _, v in (l.partition(b":") for l in head.split(b"\r\n")[1:]) if k.lower() == b"proxy-authorization"]
    authed = [v[:6].lower() + v[6:] for v in given] == [BASIC]
    if m == "hang": await asyncio.sleep(3600)
    fixed = {"407-basic": resp("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="t"'), "407-bare": resp("407 Proxy Authentication Required"),
      "407-digest": resp("407 Proxy Authentication Required", 'Proxy-Authenticate: Digest realm="t", nonce="n", qop="auth"'),
      "407-negotiate": resp("407 Proxy Authentication Required", "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"),
      "407-always": resp("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="t"'),
      "401-basic": resp("401 Unauthorized", 'WWW-Authenticate: Basic realm="Tinyproxy"'), "403": resp("403 Forbidden"),
      "429-retry-after": resp("429 Too Many Requests", "Retry-After: 2"), "502": resp("502 Bad Gateway"), "503": resp("503 Service Unavailable", "Retry-After: 1"),
      "504": resp("504 Gateway Timeout"), "302": resp("302 Found", "Location: http://127.0.0.1:1/"), "garbage": os.urandom(512), "http09": b"OK\n"}
    if m == "407-basic" and authed: m = "ok"
    if m in fixed: w.write(fixed[m]); return await w.drain()
    if m == "close-mid-connect": w.write(b"HTTP/1.1 200 Conn"); return await w.drain()
    if m == "rst-mid-connect": w.write(b"HTTP/1.1 200 Conn"); await w.drain(); await asyncio.sleep(0.05); return rst(w)
    if m == "huge-header": w.write(b"HTTP/1.1 200 OK\r\nX-Pad: " + b"a" * 10_000_000 + b"\r\n\r\n"); return await w.drain()
    if m == "endless-header":
        w.write(b"HTTP/1.1 200 OK\r\n")
        for i in range(2_000_000): w.write(b"X-%d: y\r\n" % i); await w.drain()
        return
    if line[0] != "CONNECT":   # absolute-form: this fixture is for tunnels; say so
        w.write(resp("501 CONNECT only")); return await w.drain()
    host, port = line[1].rsplit(":", 1)
    est = {"200-content-length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200-chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
      "100-then-200": b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "lf-only": b"HTTP/1.1 200 OK\nX: y\n\n",
      "200-no-reason": b"HTTP/1.1 200\r\n\r\n"}.get(m, b"HTTP/1.1 200 Connection established\r\n\r\n")
    if m == "slow": await drip(w, est); est = b""
    if m == "close-after-200": w.write(est); return await w.drain()
    if m == "early-bytes": est += b"\x16\x03\x01\x00\x05junk!"   # bytes of the tunnel in the same segment
    if m == "other-upstream": host, port = OTHER
    if not await tunnel(r, w, host.strip("[]"), int(port), m, est): w.write(resp("502 Bad Gateway")); await w.drain()
async def socks(name, r, w):
    m = name[6:]; ok = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
    ver, n = await r.readexactly(2); methods = await r.readexactly(n)
    if m == "close-greeting": return
    if m == "hang-greeting": await asyncio.sleep(3600)
    if m == "wrong-version": w.write(b"\x04\x5a" + b"\0" * 6); await w.drain(); return
    if m == "http-answer": w.write(resp("400 Bad Request")); await w.drain(); return
    if m == "no-acceptable": w.write(b"\x05\xff"); await w.drain(); await asyncio.sleep(1); return
    if m == "picks-unoffered": w.write(b"\x05\x01"); await w.drain(); await asyncio.sleep(5); return
    auth = m in ("auth-fail", "auth-fail-open", "auth-bad-version", "close-auth", "needs-auth")
    if auth and 2 not in methods: w.write(b"\x05\xff"); await w.drain(); return
    if m == "slow": await drip(w, b"\x05\x00")
    else: w.write(b"\x05\x02" if auth else b"\x05\x00"); await w.drain()
    if auth:
        await r.readexactly(1); u = await r.readexactly((await r.readexactly(1))[0]); p = await r.readexactly((await r.readexactly(1))[0])
        if m == "close-auth": return
        good = m == "needs-auth" and (u, p) == (USER.encode(), PASS.encode())
        w.write(b"\x05\x00" if m == "auth-bad-version" else (b"\x01\x00" if good else b"\x01\x01")); await w.drain()
        if not good and m != "auth-bad-version":
            if m == "auth-fail-open": await asyncio.sleep(30)
            return
    _, cmd, _, atyp = await r.readexactly(4)
    host = socket.inet_ntoa(await r.readexactly(4)) if atyp == 1 else (await r.readexactly((await r.readexactly(1))[0])).decode() if atyp == 3 else socket.inet_ntop(socket.AF_INET6, await r.readexactly(16))
    port = int.from_bytes(await r.readexactly(2), "big")
    if m == "close-request": return
    if m == "hang-request": await asyncio.sleep(3600)
    if m == "truncated-reply": w.write(ok[:4]); await w.drain(); await asyncio.sleep(3600)
    if m.startswith("rep-"): w.write(b"\x05" + bytes([int(m[4:])]) + b"\x00\x01\0\0\0\0\0\0"); await w.drain(); return
    if m == "bound-domain": ok = b"\x05\x00\x00\x03\xff" + b"d" * 255 + b"\x00\x50"
    if m == "bound-ipv6": ok = b"\x05\x00\x00\x04" + b"\0" * 15 + b"\x01\x00\x50"
    if m == "bad-atyp": ok = b"\x05\x00\x00\x09\x7f\x00\x00\x01\x00\x50"
    if m == "early-bytes": ok += b"\x16\x03\x01\x00\x05junk!"
    if m == "slow": await drip(w, ok); ok = b""
    if not await tunnel(r, w, host, port, m, ok): w.write(b"\x05\x05\x00\x01\0\0\0\0\0\0"); await w.drain()
def handler(name):
    async def h(r, w):
        COUNT[name] += 1
        try: await (http if name.startswith("http-") else socks)(name, r, w)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, RuntimeError): pass
        finally:
            try: w.close()
            except Exception: pass
    return h
def control(servers):
    async def h(r, w):
        try:
            path = (await r.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
            if path == b"/reset": COUNT.update(dict.fromkeys(COUNT, 0))
            if path == b"/open":
                for s in servers: await s.start_serving()
            b = json.dumps(HEADS if path == b"/heads" else {k: v for k, v in COUNT.items() if v}).encode()
            w.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(b) + b); await w.drain()
        except Exception: pass
        finally: w.close()
    return h
async def serve(handle, closed=False):
    s = socket.socket(proto=socket.IPPROTO_TCP); s.bind(("127.0.0.1", 0))
    return await asyncio.start_server(handle, sock=s, limit=1 << 20, backlog=1024, start_serving=not closed), s.getsockname()[1]
async def main():
    started = {n: await serve(handler(n), A.closed) for n in NAMES}
    _, port = await serve(control([s for s, _ in started.values()]))
    print(json.dumps({"port": port, "ports": {n: p for n, (_, p) in started.items()}}), flush=True); await asyncio.Event().wait()
asyncio.run(main())
