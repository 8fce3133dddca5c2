# What programs do with ruby-stomp, each as one case.
#
#     ruby ruby_stomp.rb PORT VERSION PREFIX CASE
#
# VERSION is 1.0, 1.1 or 1.2; PREFIX begins every destination's name. Exits with 0 when the case held, and otherwise
# with a backtrace that says where it did not. With TLS, CA in the environment names the file of the issuer.

require "stomp"
require "timeout"

PORT = Integer(ARGV[0])
VERSION, PREFIX, CASE = ARGV[1], ARGV[2], ARGV[3]

# The default of ruby-stomp is a list of ciphers from the time of TLS 1.0.
TLS = ENV["CA"] ? { ssl: Stomp::SSLParams.new(ts_files: ENV["CA"], use_ruby_ciphers: true) } : {}

# A connection, and the waiting that goes with it.
class Session
  attr_reader :connection

  def initialize(heart_beat: nil, **options)
    headers = VERSION == "1.0" ? {} : { "accept-version" => VERSION, "host" => "localhost" }
    headers["heart-beat"] = heart_beat if heart_beat
    @connection = Stomp::Connection.new(
      hosts: [{ login: "guest", passcode: "guest", host: "127.0.0.1", port: PORT, **TLS }],
      reliable: false, connect_headers: headers, **options
    )
    raise @connection.connection_frame.inspect unless @connection.connection_frame.command == "CONNECTED"
    raise @connection.protocol unless @connection.protocol == VERSION
    @receipts = 0
    @set_aside = []
  end

  def receive
    return @set_aside.shift unless @set_aside.empty?
    frame = Timeout.timeout(20) { @connection.receive }
    raise "the connection ended" if frame.nil?
    frame
  end

  def message(body = nil)
    frame = receive
    raise frame.inspect unless frame.command == "MESSAGE" && (body.nil? || frame.body == body)
    frame
  end

  # Does something with a receipt, and waits until it is done.
  def settle
    @receipts += 1
    id = "receipt-#{@receipts}"
    yield id
    loop do
      frame = Timeout.timeout(20) { @connection.receive }
      raise "the connection ended" if frame.nil?
      return if frame.command == "RECEIPT" && frame.headers["receipt-id"] == id
      raise frame.inspect unless frame.command == "MESSAGE"
      @set_aside << frame
    end
  end

  def subscribe(destination, ack: "auto", id: "0")
    settle { |receipt| @connection.subscribe(destination, { ack: ack, id: id, receipt: receipt }, id) }
  end

  def send(destination, body, headers = {})
    settle { |receipt| @connection.publish(destination, body, headers.merge(receipt: receipt)) }
  end

  def ack(frame, headers = {})
    settle { |receipt| @connection.ack(id(frame), names(frame).merge(headers).merge(receipt: receipt)) }
  end

  def nack(frame)
    settle { |receipt| @connection.nack(id(frame), names(frame).merge(receipt: receipt)) }
  end

  # A round trip: what was due has come before its receipt.
  def nothing_waits
    send("/topic/#{PREFIX}-round-trip", "")
    raise @set_aside.inspect unless @set_aside.empty?
  end

  def disconnect
    Timeout.timeout(20) { @connection.disconnect(receipt: "bye") }
    raise unless @connection.disconnect_receipt.headers["receipt-id"] == "bye"
  end

  private

  def id(frame) = frame.headers[VERSION == "1.2" ? "ack" : "message-id"]

  def names(frame) = VERSION == "1.1" ? { subscription: frame.headers["subscription"] } : {}
end

def check(condition, what = nil)
  raise "not so: #{what.inspect}" unless condition
end

def publish_and_subscribe
  %w[queue topic].each do |kind|
    destination = "/#{kind}/#{PREFIX}"
    session = Session.new
    session.subscribe(destination)
    100.times { |index| session.connection.publish(destination, "message #{index}", { "index" => index.to_s }) }
    100.times do |index|
      frame = session.message("message #{index}")
      check(frame.headers["index"] == index.to_s, frame)
      check(frame.headers["destination"] == destination, frame)
    end
    session.connection.unsubscribe(destination, { id: "0" }, "0")
    session.connection.publish(destination, "after unsubscribe")
    session.nothing_waits
    session.disconnect
  end
end

def ack_auto
  session = Session.new
  session.subscribe("/queue/#{PREFIX}")
  session.send("/queue/#{PREFIX}", "taken")
  session.message("taken")
  session.disconnect
  heir = Session.new
  heir.subscribe("/queue/#{PREFIX}")
  heir.nothing_waits
  heir.disconnect
end

def ack_client
  session = Session.new
  session.subscribe("/queue/#{PREFIX}", ack: "client")
  4.times { |index| session.send("/queue/#{PREFIX}", index.to_s) }
  frames = (0...4).map { |index| session.message(index.to_s) }
  session.ack(frames[2])
  session.disconnect
  heir = Session.new
  heir.subscribe("/queue/#{PREFIX}")
  check(heir.message("3").headers["redelivered"] == "true")
  heir.nothing_waits
  heir.disconnect
end

def ack_client_individual
  session = Session.new
  session.subscribe("/queue/#{PREFIX}", ack: "client-individual")
  4.times { |index| session.send("/queue/#{PREFIX}", index.to_s) }
  frames = (0...4).map { |index| session.message(index.to_s) }
  session.ack(frames[2])
  if VERSION == "1.0" # This client has no NACK there.
    session.ack(frames[0])
  else
    session.nack(frames[0])
    session.ack(session.message("0"))
  end
  session.disconnect
  heir = Session.new
  heir.subscribe("/queue/#{PREFIX}")
  heir.message("1")
  heir.message("3")
  heir.nothing_waits
  heir.disconnect
end

def transactions
  input, output = "/queue/#{PREFIX}", "/queue/#{PREFIX}-output"
  session = Session.new
  session.subscribe(input, ack: "client-individual")
  session.subscribe(output, id: "1")
  session.send(input, "input")
  frame = session.message("input")

  session.connection.begin("t")
  session.send(output, "aborted", { transaction: "t" })
  session.ack(frame, { transaction: "t" })
  session.connection.abort("t")
  session.nothing_waits

  session.connection.begin("t")
  session.send(output, "first", { transaction: "t" })
  session.send(output, "second", { transaction: "t" })
  session.ack(frame, { transaction: "t" })
  session.nothing_waits
  session.connection.commit("t")
  session.message("first")
  session.message("second")
  session.disconnect

  heir = Session.new
  heir.subscribe(input)
  heir.nothing_waits
  heir.disconnect
end

def receipts
  session = Session.new
  50.times { |index| session.connection.publish("/topic/#{PREFIX}", "x", { receipt: "r#{index}" }) }
  50.times do |index|
    frame = session.receive
    check(frame.command == "RECEIPT" && frame.headers["receipt-id"] == "r#{index}", frame)
  end
  session.disconnect
end

# Both ways, for several times the interval after which a silent peer is cut. The client only counts its beats, in
# threads of its own, so the counts are looked at now and then.
def heart_beats
  session = Session.new(heart_beat: "500,500", max_hbread_fails: 1)
  connection = session.connection
  Timeout.timeout(20) { sleep 0.01 until connection.hbsend_count >= 6 && connection.hbrecv_count >= 6 }
  session.nothing_waits
  session.disconnect
end

def temporary_queues
  service = Session.new
  service.subscribe("/queue/#{PREFIX}")
  session = Session.new
  session.connection.publish(
    "/queue/#{PREFIX}", "question", { "reply-to" => "/temp-queue/replies", "correlation-id" => "42" })
  frame = service.message("question")
  service.connection.publish(frame.headers["reply-to"], "answer", { "correlation-id" => "42" })
  frame = session.message("answer")
  check(frame.headers["correlation-id"] == "42", frame)
  check(frame.headers["subscription"] == "/temp-queue/replies", frame)
  session.disconnect
  service.disconnect
end

def binary_bodies
  session = Session.new
  session.subscribe("/queue/#{PREFIX}")
  every = (0..255).to_a.pack("C*")
  bodies = ["", "\0", "\0\n\0\n", every * 4, every * 4096]
  bodies.each { |body| session.connection.publish("/queue/#{PREFIX}", body.b) }
  bodies.each do |body|
    got = session.message.body
    check(got.b == body.b, [got.bytesize, body.bytesize])
  end
  session.disconnect
end

def unicode_headers
  destination = "/queue/#{PREFIX}/Füße/日本/🐎"
  headers = { "schlüssel" => "Wert mit ä", "ключ" => "значение" }
  # This client decodes an escaped backslash before a letter as if the letter were escaped, so there is none.
  headers["escaped:name"] = "a:b\nd" unless VERSION == "1.0"
  session = Session.new
  session.subscribe(destination)
  session.connection.publish(destination, "Füße 日本 🐎", headers)
  frame = session.message
  check(frame.body.b == "Füße 日本 🐎".b, frame.body)
  check(frame.headers["destination"].b == destination.b, frame.headers)
  headers.each do |name, value|
    got = frame.headers.find { |key, _| key.b == name.b }
    check(got && got[1].b == value.b, [name, frame.headers])
  end
  session.disconnect
end

def errors
  session = Session.new
  session.connection.publish("/nowhere/at/all", "x", { receipt: "r" })
  frame = session.receive
  check(frame.command == "ERROR" && frame.headers["message"].include?("destination"), frame)
  check(frame.headers["receipt-id"] == "r", frame)
end

method(CASE).call
