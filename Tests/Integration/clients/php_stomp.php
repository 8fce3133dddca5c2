<?php
// What programs do with php-stomp (the PECL extension), each as one case. It speaks STOMP 1.0 unless its CONNECT headers
// ask for more.
//
//     php php_stomp.php PORT VERSION PREFIX CASE
//
// VERSION is 1.0, 1.1 or 1.2; PREFIX begins every destination's name. Exits with 0 when the case held, and otherwise
// with the exception that says where it did not. SCHEME in the environment is tcp (the default) or ssl; the extension
// verifies no certificates.

[, $port, $version, $prefix, $case] = $argv;

function check($condition, $what = null) {
    if (!$condition) throw new Exception("not so: " . var_export($what, true));
}

function connect() {
    global $port, $version;
    $headers = $version == "1.0" ? [] : ["accept-version" => $version, "host" => "localhost"];
    $scheme = getenv("SCHEME") ?: "tcp";
    $stomp = new Stomp("$scheme://127.0.0.1:$port", "guest", "guest", $headers);
    $stomp->setReadTimeout(20);
    check(strlen($stomp->getSessionId()) > 0, "session");
    return $stomp;
}

function message($stomp, $body = null) {
    $frame = $stomp->readFrame();
    check($frame !== false, "no frame in time: " . $stomp->error());
    check($frame->command == "MESSAGE" && ($body === null || $frame->body === $body), $frame);
    return $frame;
}

// The extension's ack() knows the frames of 1.0; later versions need their own headers.
function names($frame) {
    global $version;
    switch ($version) {
        case "1.0": return [];
        case "1.1": return ["subscription" => $frame->headers["subscription"]];
        default: return ["id" => $frame->headers["ack"]];
    }
}

function acknowledge($stomp, $frame, $headers = []) {
    static $count = 0;
    $receipt = ["receipt" => "ack-" . ++$count];
    // With a receipt the extension waits for it, and fails without.
    check($stomp->ack($frame->headers["message-id"], names($frame) + $headers + $receipt), $stomp->error());
}

// A round trip: with a receipt, send() waits for it and sets aside what comes before.
function nothing_waits($stomp) {
    global $prefix;
    check($stomp->send("/topic/$prefix-round-trip", "", ["receipt" => uniqid()]), $stomp->error());
    $stomp->setReadTimeout(0, 1000);
    $frame = $stomp->readFrame();
    check($frame === false, $frame);
    $stomp->setReadTimeout(20);
}

$cases = [
    "publish_and_subscribe" => function () use ($prefix, $version) {
        foreach (["queue", "topic"] as $kind) {
            $destination = "/$kind/$prefix";
            $stomp = connect();
            check($stomp->subscribe($destination, ["id" => "0", "ack" => "auto", "receipt" => "sub"]), $stomp->error());
            for ($index = 0; $index < 100; $index++) {
                check($stomp->send($destination, "message $index", ["index" => "$index"]), $stomp->error());
            }
            for ($index = 0; $index < 100; $index++) {
                $frame = message($stomp, "message $index");
                check($frame->headers["index"] === "$index", $frame);
                check($frame->headers["destination"] === $destination, $frame);
            }
            check($stomp->unsubscribe($destination, ["id" => "0", "receipt" => "unsub"]), $stomp->error());
            check($stomp->send($destination, "after unsubscribe", ["receipt" => "after"]), $stomp->error());
            nothing_waits($stomp);
            unset($stomp);
        }
    },
    "ack_auto" => function () use ($prefix) {
        $stomp = connect();
        $stomp->subscribe("/queue/$prefix", ["id" => "0", "ack" => "auto", "receipt" => "sub"]);
        $stomp->send("/queue/$prefix", "taken");
        message($stomp, "taken");
        unset($stomp);
        $heir = connect();
        $heir->subscribe("/queue/$prefix", ["id" => "0", "ack" => "auto", "receipt" => "sub"]);
        nothing_waits($heir);
    },
    // What the extension asks for by itself: ack:client, and one message at a time.
    "ack_client" => function () use ($prefix) {
        $stomp = connect();
        $stomp->subscribe("/queue/$prefix", ["id" => "0", "receipt" => "sub"]);
        for ($index = 0; $index < 4; $index++) $stomp->send("/queue/$prefix", "$index", ["receipt" => "r$index"]);
        for ($index = 0; $index < 3; $index++) acknowledge($stomp, message($stomp, "$index"));
        message($stomp, "3");
        unset($stomp);
        $heir = connect();
        $heir->subscribe("/queue/$prefix", ["id" => "0", "receipt" => "sub"]);
        $frame = message($heir, "3");
        check($frame->headers["redelivered"] === "true", $frame);
        acknowledge($heir, $frame);
        nothing_waits($heir);
    },
    "ack_client_individual" => function () use ($prefix) {
        $stomp = connect();
        $headers = ["id" => "0", "ack" => "client-individual", "activemq.prefetchSize" => "10", "receipt" => "sub"];
        $stomp->subscribe("/queue/$prefix", $headers);
        for ($index = 0; $index < 4; $index++) $stomp->send("/queue/$prefix", "$index");
        $frames = [];
        for ($index = 0; $index < 4; $index++) $frames[] = message($stomp, "$index");
        acknowledge($stomp, $frames[2]);
        acknowledge($stomp, $frames[0]);
        unset($stomp);
        $heir = connect();
        $heir->subscribe("/queue/$prefix", $headers);
        acknowledge($heir, message($heir, "1"));
        acknowledge($heir, message($heir, "3"));
        nothing_waits($heir);
    },
    "transactions" => function () use ($prefix) {
        $stomp = connect();
        $stomp->subscribe("/queue/$prefix", ["id" => "0", "receipt" => "sub"]);
        $stomp->subscribe("/queue/$prefix-output", ["id" => "1", "ack" => "auto", "receipt" => "sub"]);
        $stomp->send("/queue/$prefix", "input");
        $frame = message($stomp, "input");

        check($stomp->begin("t", ["receipt" => "begin-1"]), $stomp->error());
        $stomp->send("/queue/$prefix-output", "aborted", ["transaction" => "t", "receipt" => "send-1"]);
        acknowledge($stomp, $frame, ["transaction" => "t"]);
        check($stomp->abort("t", ["receipt" => "abort"]), $stomp->error());
        nothing_waits($stomp);

        check($stomp->begin("t", ["receipt" => "begin-2"]), $stomp->error());
        $stomp->send("/queue/$prefix-output", "first", ["transaction" => "t", "receipt" => "send-2"]);
        $stomp->send("/queue/$prefix-output", "second", ["transaction" => "t", "receipt" => "send-3"]);
        acknowledge($stomp, $frame, ["transaction" => "t"]);
        nothing_waits($stomp);
        check($stomp->commit("t", ["receipt" => "commit"]), $stomp->error());
        message($stomp, "first");
        message($stomp, "second");
        unset($stomp);
        $heir = connect();
        $heir->subscribe("/queue/$prefix", ["id" => "0", "receipt" => "sub"]);
        nothing_waits($heir);
    },
    "receipts" => function () use ($prefix) {
        $stomp = connect();
        for ($index = 0; $index < 50; $index++) {
            check($stomp->send("/topic/$prefix", "x", ["receipt" => "r$index"]), $stomp->error());
        }
    },
    "temporary_queues" => function () use ($prefix) {
        $service = connect();
        $service->subscribe("/queue/$prefix", ["id" => "0", "ack" => "auto", "receipt" => "sub"]);
        $stomp = connect();
        $stomp->send("/queue/$prefix", "question", ["reply-to" => "/temp-queue/replies", "correlation-id" => "42"]);
        $frame = message($service, "question");
        $service->send($frame->headers["reply-to"], "answer", ["correlation-id" => "42"]);
        $frame = message($stomp, "answer");
        check($frame->headers["correlation-id"] === "42", $frame);
        check($frame->headers["subscription"] === "/temp-queue/replies", $frame);
    },
    "binary_bodies" => function () use ($prefix) {
        $stomp = connect();
        $stomp->subscribe("/queue/$prefix", ["id" => "0", "ack" => "auto", "receipt" => "sub"]);
        $every = implode("", array_map("chr", range(0, 255)));
        $bodies = ["\0", "\0\n\0\n", str_repeat($every, 4), str_repeat($every, 4096)];
        foreach ($bodies as $body) {
            check($stomp->send("/queue/$prefix", $body, ["content-length" => strlen($body)]), $stomp->error());
            $frame = message($stomp);
            check($frame->body === $body, [strlen($frame->body), strlen($body)]);
        }
    },
    "unicode_headers" => function () use ($prefix) {
        $destination = "/queue/$prefix/Füße/日本/🐎";
        $headers = ["schlüssel" => "Wert mit ä", "ключ" => "значение"];
        $stomp = connect();
        $stomp->subscribe($destination, ["id" => "0", "ack" => "auto", "receipt" => "sub"]);
        $stomp->send($destination, "Füße 日本 🐎", $headers);
        $frame = message($stomp, "Füße 日本 🐎");
        check($frame->headers["destination"] === $destination, $frame);
        foreach ($headers as $name => $value) check($frame->headers[$name] === $value, $frame);
    },
    "errors" => function () use ($prefix) {
        $stomp = connect();
        $stomp->send("/nowhere/at/all", "x");
        $frame = null;
        try {
            $frame = $stomp->readFrame();
        } catch (StompException $exception) {
            check(str_contains($exception->getMessage(), "destination"), $exception->getMessage());
            return;
        }
        check($frame === false && str_contains($stomp->error(), "destination"), [$frame, $stomp->error()]);
    },
];

$cases[$case]();
