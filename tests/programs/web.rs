//! Servers of HTTP, and what asks them.

use crate::program::{Program, http};

const NGINX: &str = r#"
mkdir -p /www && cd /www && head -c 300000 /dev/zero | tr '\0' x > large && echo 'hello from nginx' > index.html
cat > /nginx.conf <<'END'
events {}
http { absolute_redirect off; server { listen 80; root /www; client_max_body_size 0;
  location /echo { return 200 "$request_method $request_uri $http_host $http_x_mixed\n"; }
  location /moved { return 302 /echo?moved; }
  location /gzip { gzip on; gzip_types text/plain; gzip_min_length 1; try_files /large =404; } } }
END
exec nginx -c /nginx.conf -g 'daemon off;'"#;

const APACHE: &str = r#"
a2enmod -q http2 dav dav_fs >/dev/null; mkdir -p /var/run/apache2 /dav /davlock && chown www-data /dav /davlock
cat > /etc/apache2/sites-enabled/000-default.conf <<'END'
ServerName a
DAVLockDB /davlock/lock
<VirtualHost *:80>
  Protocols h2c http/1.1
  DocumentRoot /var/www/html
  Alias /dav /dav
  <Location /dav>
    Dav On
    Require all granted
  </Location>
</VirtualHost>
END
. /etc/apache2/envvars; exec apache2 -D FOREGROUND"#;

const FLASK: &str = r#"
cat > /app.py <<'END'
import flask, time
app = flask.Flask("app")
@app.route("/echo", methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def echo():
    body = flask.request.get_data()
    names = [k for k, v in flask.request.headers if k.lower() not in ("traceparent", "tracestate", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "host", "connection", "content-length")]
    return f"{flask.request.method} {flask.request.full_path} {len(body)} {sorted(names)}\n"
@app.route("/stream")
def stream():
    def parts():
        for number in range(5):
            time.sleep(0.05)
            yield f"data: {number}\n\n"
    return flask.Response(parts(), mimetype="text/event-stream")
END
cd / && exec gunicorn -b 0.0.0.0:80 --threads 4 app:app 2>/dev/null"#;

const NODE: &str = r#"
cat > /app.js <<'END'
const http = require('http'), crypto = require('crypto');
const server = http.createServer((request, response) => {
  let length = 0, body = '';
  request.on('data', part => { length += part.length; body += part; });
  request.on('end', () => {
    if (request.url == '/hints') response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    if (request.url.startsWith('/report?')) reports[request.url] = body;
    if (request.url.startsWith('/reported?')) { response.end(reports[request.url.replace('reported', 'report')]); return; }
    if (request.url.startsWith('/page?')) { response.setHeader('Content-Type', 'text/html'); response.end(page); return; }
    response.setHeader('Trailer', 'X-Sum');
    response.write(`${request.method} ${request.url} ${length}\n`);
    response.addTrailers({ 'X-Sum': '42' });
    response.end('done\n');
  });
});
const reports = {};
const page = `<html><body><script>
  const fetched = fetch('/fetched', { method: 'POST', body: 'x'.repeat(100000) }).then(answer => answer.text());
  const socket = new WebSocket('ws://' + location.host + '/socket');
  const message = new Promise(done => socket.onmessage = message => done(message.data));
  Promise.all([fetched, message]).then(said => fetch('/report' + location.search, { method: 'POST', body: said.join('') }));
</script></body></html>`;
server.on('upgrade', (request, socket) => {
  if (request.headers.upgrade != 'websocket') {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ' + request.headers.upgrade + '\r\n\r\n');
    socket.on('data', data => socket.write('echo ' + data)); return;
  }
  const key = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ' +
    key.digest('base64') + '\r\n\r\n');
  socket.write(Buffer.concat([Buffer.from([0x81, 14]), Buffer.from('from a socket!')]));
});
server.on('connect', (request, socket) => { socket.write('HTTP/1.1 200 OK\r\n\r\ntunnel to ' + request.url); socket.end(); });
server.listen(80, '0.0.0.0');
END
exec node /app.js"#;

const WEBSOCKETS: &str = r#"
cat > /server.py <<'END'
import asyncio, websockets
async def echo(socket, path=None):
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, "0.0.0.0", 80, max_size=None):
        await asyncio.Future()
asyncio.run(main())
END
exec python3 /server.py"#;

const GRPC: &str = r#"
cat > /server.py <<'END'
import grpc, time
from concurrent import futures
class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/lab.Echo/Chat":
            def chat(messages, context):
                for message in messages:
                    yield b"echo " + message
                context.set_trailing_metadata((("sum", "42"),))
            return grpc.stream_stream_rpc_method_handler(chat)
        if details.method == "/lab.Echo/Fail":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more"))
        return None
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port("0.0.0.0:80")
server.start()
server.wait_for_termination()
END
exec python3 /server.py"#;

pub(crate) const PROGRAMS: &[Program] = &[
    http(
        "nginx, curl",
        NGINX,
        r#"curl -sS -i -H 'X-Mixed: a' -H 'Host: a' http://$A:$P/ http://$A:$P/echo | grep -vi '^\(date\|connection\|last-modified\|etag\):'
           curl -sS -L http://$A:$P/moved -o /dev/null -w '%{http_code} %{num_redirects}\n'
           curl -sS -r 0-3 http://$A:$P/large; curl -sS --compressed http://$A:$P/gzip | md5sum
           curl -sS -I http://$A:$P/large | grep -i '^\(HTTP\|content\)'
           curl -sS -X PUT --data-binary @/bin/bash http://$A:$P/ -o /dev/null -w '%{http_code}\n'"#,
    ),
    http("nginx, curl with HTTP/1.0", NGINX, "curl -sS --http1.0 http://$A:$P/"),
    http("nginx, half-closing netcat", NGINX, r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -N $A $P | tail -n 1"),
    http(
        "nginx, ab",
        NGINX,
        r#"for keep in '' -k; do ab -q -n 300 -c 10 $keep http://$A:$P/ | grep '^\(Complete\|Failed\|Non-2xx\|Document\)'; done"#,
    ),
    http(
        "nginx, wrk",
        NGINX,
        r#"wrk -t1 -c10 -d1s http://$A:$P/ > /tmp/wrk && { grep -c 'Socket errors\|Non-2xx' /tmp/wrk || :; }; grep -o '^Requests/sec' /tmp/wrk"#,
    ),
    http("nginx, wget", NGINX, "wget -q -O - --header 'Host: a' http://$A:$P/echo?wget http://$A:$P/large | md5sum"),
    http(
        "Apache, curl that offers h2c",
        APACHE,
        "curl -sS --http2 http://$A:$P/ | md5sum; curl -sS http://$A:$P/ | md5sum",
    ),
    http(
        "Apache, curl that knows h2c",
        APACHE,
        "curl -sS --http2-prior-knowledge -w '%{http_version}' http://$A:$P/ | md5sum",
    ),
    http(
        "Apache's WebDAV, curl",
        APACHE,
        r#"name=x$RANDOM; u=http://$A:$P/dav; curl -sS -X MKCOL $u/$name -o /dev/null -w '%{http_code}\n'
           curl -sS -T /etc/hostname $u/$name/a -o /dev/null -w '%{http_code}\n'
           curl -sS -X MOVE -H "Destination: $u/$name/b" $u/$name/a -o /dev/null -w '%{http_code}\n'
           curl -sS -X PROPFIND -H 'Depth: 1' $u/$name/ | grep -c D:response
           curl -sS -X OPTIONS -D - -o /dev/null $u/ | grep -i '^\(DAV\|Allow\)'
           curl -sS -X LOCK -d '<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>' $u/$name/b -o /dev/null -w '%{http_code}\n'"#,
    ),
    http(
        "gunicorn, requests",
        FLASK,
        r#"python3 - <<'END'
import os, requests
url = f"http://{os.environ['A']}:{os.environ['P']}"
session = requests.Session()
for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
    print(session.request(method, url + "/echo?q=%20", headers={"X-Odd": "caf\u00e9".encode("latin-1")}).text.strip())
print(session.post(url + "/echo", data=b"x" * 3000000).text.strip())
print(session.post(url + "/echo", data=(b"part" for _ in range(1000))).text.strip())
print(session.post(url + "/echo", files={"file": b"y" * 100}, headers={"Content-Type": "multipart/form-data; boundary=a"}).status_code)
print(session.get(url + "/stream", stream=True).text)
END"#,
    ),
    http(
        "gunicorn, curl that expects 100",
        FLASK,
        r#"head -c 2000000 /dev/zero > /tmp/zeros
           curl -sS -H 'Expect: 100-continue' --data-binary @/tmp/zeros http://$A:$P/echo | cut -d' ' -f1-3
           curl -sS -H 'Transfer-Encoding: chunked' -T - http://$A:$P/echo < /tmp/zeros | cut -d' ' -f1-3"#,
    ),
    http(
        "Python's http.server, wget and curl",
        "mkdir -p /www && cd /www && echo hello > a && exec python3 -m http.server 80 2>/dev/null",
        "wget -q -O - http://$A:$P/a; curl -sS http://$A:$P/a http://$A:$P/ http://$A:$P/none | md5sum; curl -sS -I http://$A:$P/a | head -n 1 | cut -d' ' -f2-",
    ),
    http(
        "Node, Node",
        NODE,
        r#"cat > /tmp/client.js <<'END'
const http = require('http'), agent = new http.Agent({ keepAlive: true });
const where = { host: process.env.A, port: process.env.P, agent };
const ask = (options, body) => new Promise((done, failed) => {
  const request = http.request({ ...where, ...options }, response => {
    let text = '';
    response.on('data', part => text += part);
    response.on('end', () => done([response.statusCode, text.trim(), response.trailers]));
  });
  request.on('information', info => console.log('interim', info.statusCode));
  request.on('upgrade', (response, socket) => { socket.on('data', data => { socket.destroy(); done([response.statusCode, '' + data]); }); socket.write('hi'); });
  request.on('connect', (response, socket, head) => { let text = '' + head; socket.on('data', data => text += data); socket.on('end', () => done([response.statusCode, text])); });
  request.on('error', error => done(['error', error.code]));
  request.end(body);
});
(async () => {
  console.log(await ask({ path: '/a' }));
  console.log(await ask({ path: '/b', method: 'POST' }, 'x'.repeat(100000)));
  console.log(await ask({ path: '/hints' }));
  console.log(await ask({ path: '/', headers: { Connection: 'Upgrade', Upgrade: 'foo' } }));
  console.log(await ask({ path: 'b:443', method: 'CONNECT' }));
  process.exit(0);
})();
END
node /tmp/client.js"#,
    ),
    http(
        "Node, Chromium",
        NODE,
        r#"key=$RANDOM; curl -sS -o /dev/null http://$A:$P/
           timeout 20 chromium --headless --no-sandbox --disable-gpu --user-data-dir=/tmp/browser-$key --remote-debugging-port=0 \
             "http://$A:$P/page?$key" >/dev/null 2>&1 & browser=$!
           for turn in $(seq 80); do
             sleep 0.2; said=$(curl -sS "http://$A:$P/reported?$key"); [[ -z $said ]] || break
           done; kill $browser; wait $browser || :; rm -rf /tmp/browser-$key || :; echo "$said""#,
    ),
    http(
        "websockets, websockets",
        WEBSOCKETS,
        r#"python3 - <<'END'
import asyncio, os, websockets
async def main():
    async with websockets.connect(f"ws://{os.environ['A']}:{os.environ['P']}/", max_size=None) as socket:
        for message in ("one", b"two", "x" * 3000000):
            await socket.send(message)
            answer = await socket.recv()
            print(type(answer).__name__, len(answer), answer == message)
        await (await socket.ping())
        await socket.close(1000, "bye")
        print(socket.close_code)
asyncio.run(main())
END"#,
    ),
    http(
        "grpcio, grpcio",
        GRPC,
        r#"python3 - <<'END'
import grpc, os
channel = grpc.insecure_channel(f"{os.environ['A']}:{os.environ['P']}")
grpc.channel_ready_future(channel).result(timeout=5)
call = channel.stream_stream("/lab.Echo/Chat")(iter([b"one", b"x" * 100000, b"three"]))
print([len(answer) for answer in call], dict(call.trailing_metadata()).get("sum"), call.code())
for method in ("/lab.Echo/Fail", "/lab.Echo/None"):
    try:
        channel.unary_unary(method)(b"")
    except grpc.RpcError as error:
        print(error.code(), error.details())
END"#,
    ),
    http(
        "nghttpd, nghttp and h2load",
        "mkdir -p /www && echo hello > /www/a && exec nghttpd --no-tls -d /www 80",
        r#"nghttp http://$A:$P/a; h2load -n 200 -c 4 -m 10 http://$A:$P/a | grep '^\(requests\|status\)'"#,
    ),
    http(
        "lighttpd, curl",
        "mkdir -p /www && cd /www && seq 100000 > a && printf 'server.document-root=\"/www\"\nserver.port=80\n' > /l.conf && exec lighttpd -D -f /l.conf",
        r#"curl -sS http://$A:$P/a | md5sum; curl -sS -r 5-10,20-30 http://$A:$P/a | grep -v '^--\|^Content' | md5sum; curl -sS -I http://$A:$P/none | head -n 1"#,
    ),
    http(
        "Squid, curl",
        r#"printf 'http_port 80\nhttp_access allow all\ncache deny all\nshutdown_lifetime 0 seconds\npid_filename none\n' > /s.conf
           (mkdir -p /www && cd /www && echo 'behind squid' > a && exec python3 -m http.server 8000 2>/dev/null) & exec squid -N -f /s.conf"#,
        r#"curl -sS -x http://$A:$P http://127.0.0.1:8000/a; curl -sS -p -x http://$A:$P http://127.0.0.1:8000/a"#,
    ),
    http(
        "tinyproxy, curl",
        r#"printf 'Port 80\nListen 0.0.0.0\nTimeout 60\nMaxClients 50\n' > /t.conf
           (mkdir -p /www && cd /www && echo 'behind tinyproxy' > a && exec python3 -m http.server 8000 2>/dev/null) & exec tinyproxy -d -c /t.conf"#,
        r#"curl -sS -x http://$A:$P http://127.0.0.1:8000/a; curl -sS -p -x http://$A:$P http://127.0.0.1:8000/a"#,
    ),
    http(
        "Icecast, a source and a listener",
        r#"cat > /i.xml <<'END'
<icecast><limits><sources>5</sources><source-timeout>60</source-timeout><burst-on-connect>0</burst-on-connect></limits>
<authentication><source-password>hackme</source-password><admin-user>admin</admin-user><admin-password>x</admin-password></authentication>
<hostname>a</hostname><listen-socket><port>80</port></listen-socket>
<paths><logdir>/tmp</logdir><webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot></paths>
<security><changeowner><user>nobody</user><group>nogroup</group></changeowner></security></icecast>
END
exec icecast2 -c /i.xml >/dev/null"#,
        r#"python3 - <<'END'
import base64, os, socket, time
def connect():
    stream = socket.create_connection((os.environ["A"], int(os.environ["P"])), 5)
    return stream
source = connect()
key = base64.b64encode(b"source:hackme").decode()
name = f"/m{time.time_ns()}"
source.sendall(f"SOURCE {name} HTTP/1.0\r\nAuthorization: Basic {key}\r\nContent-Type: audio/mpeg\r\n\r\n".encode())
print(source.recv(1000).split(b"\r\n")[0].decode())
def play():
    for _ in range(10):
        source.sendall(b"audio" * 400)
        time.sleep(0.05)
play()
listener = connect()
listener.sendall(f"GET {name} HTTP/1.0\r\n\r\n".encode())
play()
heard = b""
listener.settimeout(3)
while len(heard) < 4000:
    part = listener.recv(4000)
    if not part: break
    heard += part
print(heard.split(b"\r\n")[0].decode(), heard.count(b"audio") > 200)
END"#,
    ),
    http(
        "Docker's API, docker",
        "exec socat TCP-LISTEN:80,fork,reuseaddr UNIX-CONNECT:/docker.sock",
        r#"export DOCKER_HOST=tcp://$A:$P PATH=$PATH:/docker
           docker ps -q --filter name=client | wc -l
           echo 'from stdin' | docker run -i --rm programs cat
           docker exec client echo 'from exec'
           echo 'into exec' | docker exec -i client cat
           docker run --rm programs sh -c 'echo out; sleep 0.3; echo err >&2; exit 3' 2>&1 || echo $?
           printf 'FROM programs\nRUN echo built > /built\nCMD cat /built\n' | DOCKER_BUILDKIT=0 docker build -q -t classic - >/dev/null && docker run --rm classic"#,
    ),
    http(
        "Docker's API, BuildKit",
        "exec socat TCP-LISTEN:80,fork,reuseaddr UNIX-CONNECT:/docker.sock",
        r#"export DOCKER_HOST=tcp://$A:$P PATH=$PATH:/docker DOCKER_BUILDKIT=1
           mkdir -p /tmp/context && echo "$RANDOM" > /tmp/context/x
           printf 'FROM programs\nCOPY x /x\nRUN echo built > /built\nCMD cat /built\n' > /tmp/context/Dockerfile
           docker build -q --network none -t kit /tmp/context >/dev/null && docker run --rm kit"#,
    ),
];
