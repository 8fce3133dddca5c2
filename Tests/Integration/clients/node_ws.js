// STOMP over WebSocket with the library ws of Node.js.
//
//     node node_ws.js URI CASE
//
// For wss://, CA in the environment names the file of the issuer. COMPRESSION=1: messages are to be compressed. Exits with
// 0 when the case held, and otherwise with an error that says where it did not.
"use strict";

const assert = require("assert");
const fs = require("fs");
const WebSocket = require("ws");

const [uri, name] = process.argv.slice(2);
const tls = uri.startsWith("wss") ? { ca: fs.readFileSync(process.env.CA) } : {};
const CONNECT = "CONNECT\naccept-version:1.0,1.1,1.2\nheart-beat:0,0\n\n\0";

// A connection, and the waiting that goes with it.
class Client {
    constructor(options = {}, protocols = ["v10.stomp", "v11.stomp", "v12.stomp"]) {
        this.socket = new WebSocket(uri, protocols, { ...tls, perMessageDeflate: { threshold: 0 }, ...options });
        this.rest = Buffer.alloc(0);
        this.waiting = () => {};
        this.socket.on("message", (data) => {
            this.rest = Buffer.concat([this.rest, data]);
            this.waiting();
        });
        this.opened = new Promise((resolve, reject) => {
            this.socket.on("open", resolve);
            this.socket.on("error", reject);
        });
        this.closed = new Promise((resolve) => this.socket.on("close", (code) => resolve(code)));
        this.closed.then(() => this.waiting());
    }

    // The next frame. Its body may hold a NUL if it has a content-length.
    async frame() {
        for (;;) {
            while (this.rest[0] === 10) this.rest = this.rest.subarray(1);
            const head = this.rest.indexOf("\n\n");
            if (head >= 0) {
                const length = /\ncontent-length:(\d+)/.exec(this.rest.subarray(0, head).toString());
                const end = length ? head + 2 + Number(length[1]) : this.rest.indexOf(0, head);
                if (end >= 0 && end < this.rest.length) {
                    const frame = this.rest.subarray(0, end);
                    this.rest = this.rest.subarray(end + 1);
                    return frame;
                }
            }
            assert.notEqual(this.socket.readyState, WebSocket.CLOSED, "the connection has ended");
            await new Promise((resolve) => { this.waiting = resolve; });
        }
    }

    async expect(...parts) {
        const frame = await this.frame();
        for (const part of parts) assert(frame.includes(part), `${JSON.stringify(part)} is not in ${frame}`);
        return frame;
    }
}

const cases = {
    async conversation() {
        const client = new Client();
        await client.opened;
        assert.equal(client.socket.protocol, "v12.stomp");
        // The library offers permessage-deflate. The broker takes it up where it is configured.
        assert.equal(client.socket.extensions !== "", process.env.COMPRESSION === "1");
        client.socket.send(CONNECT);
        await client.expect("CONNECTED\n", "version:1.2\n");
        client.socket.send("SUBSCRIBE\nid:0\ndestination:/topic/node\nreceipt:s\n\n\0");
        await client.expect("RECEIPT\n");
        const send = "SEND\ndestination:/topic/node\n\n";
        client.socket.send(send + "one\0\n" + send + "zwölf\0");
        client.socket.send(send, { fin: false });
        const pong = new Promise((resolve) => client.socket.on("pong", resolve));
        client.socket.ping("here");
        client.socket.send("frag", { fin: false });
        client.socket.send("ments\0", { fin: true });
        const body = Buffer.from([255, 0, 254]);
        client.socket.send(Buffer.concat([Buffer.from(send.replace("\n\n", "\ncontent-length:3\n\n")), body, Buffer.alloc(1)]));
        for (const text of ["one", "zwölf", "fragments"]) await client.expect("MESSAGE\n", "\n\n" + text);
        assert((await client.expect("MESSAGE\n")).subarray(-3).equals(body));
        assert.equal((await pong).toString(), "here");
        client.socket.send("DISCONNECT\nreceipt:bye\n\n\0");
        await client.expect("receipt-id:bye");
        assert.equal(await client.closed, 1000);
    },

    async long_messages() {
        const client = new Client();
        await client.opened;
        client.socket.send(CONNECT);
        await client.expect("CONNECTED\n");
        client.socket.send("SUBSCRIBE\nid:0\ndestination:/queue/node\nack:auto\n\n\0");
        const body = "0123456789".repeat(50000);
        for (let number = 0; number < 20; number++) {
            client.socket.send(`SEND\ndestination:/queue/node\nnumber:${number}\n\n${body}\0`);
        }
        for (let number = 0; number < 20; number++) {
            const frame = await client.expect(`number:${number}\n`);
            assert(frame.subarray(-body.length).equals(Buffer.from(body)));
        }
        client.socket.close(1000);
        assert.equal(await client.closed, 1000);
    },

    async origins() {
        const own = new Client({ origin: "http://localhost:3000" });
        await own.opened;
        own.socket.close();
        for (const origin of ["http://evil.example", "null"]) {
            await assert.rejects(new Client({ origin }).opened, /403/);
        }
    },

    async bad_utf8() {
        const client = new Client();
        await client.opened;
        client.socket.send(CONNECT);
        await client.expect("CONNECTED\n");
        client.socket.send(Buffer.from([0xc3, 0x28]), { binary: false });
        assert.equal(await client.closed, 1007);
    },
};

const timer = setTimeout(() => { throw new Error("no end after 60 s"); }, 60000);
cases[name]().then(() => process.exit(0), (error) => {
    clearTimeout(timer);
    console.error(error);
    process.exit(1);
});
