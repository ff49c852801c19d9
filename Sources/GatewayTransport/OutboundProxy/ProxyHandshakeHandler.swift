// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import NIOCore
import NIOSSL
import NIOTLS

/// Speaks to an outbound proxy until the tunnel stands, then leaves the pipeline to those who use it.
///
/// What the proxy sends behind its answer belongs to the upstream and is handed on, to the last byte.
final class ProxyHandshakeHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What is spoken.
    enum Speech {
        case connect(ConnectHandshake)
        case socks(SOCKSHandshake)
        /// Nothing: requests are handed to the proxy as they are.
        case forward
    }

    private let dial: ProxyDial
    private let route: OutboundProxyRoute
    private var speech: Speech
    private var context: ChannelHandlerContext?
    /// Keeps what NIO fires inside a write of ours until the bytes that came before are read.
    private let callOuts: CallOuts
    private var isConnected = false
    /// Whether TLS with the proxy stands; true where there is none.
    private var isSecured: Bool
    private var hasBegun = false
    private var isOver = false

    init(_ dial: ProxyDial, _ route: OutboundProxyRoute, _ speech: Speech, on eventLoop: any EventLoop) {
        self.callOuts = CallOuts(on: eventLoop)
        self.dial = dial
        self.route = route
        self.speech = speech
        self.isSecured = route.tls == nil
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        // A channel that closes before it was active says so in no other way.
        if self.isConnected, !self.isOver { self.becomeInactive() }
    }

    /// Of several connections that were tried this is the one to use.
    func connected() {
        self.isConnected = true
        self.beginIfReady()
    }

    private func beginIfReady() {
        guard self.isConnected, self.isSecured, !self.hasBegun, !self.isOver, let context else { return }
        self.hasBegun = true
        self.dial.reached()
        switch self.speech {
        case .connect:
            let head = ConnectHandshake.request(
                target: self.route.target,
                authorization: self.route.proxy.authorization?.reveal(),
                agent: self.route.agent
            )
            self.send(Array(head.utf8), context)
        case .socks(let handshake):
            self.send(handshake.greeting, context)
        case .forward:
            self.succeed(ByteBuffer(), context)
        }
    }

    private func send(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
        self.callOuts.begin()
        context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
        self.callOuts.end()
    }

    // MARK: Channel

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // The handlers behind wait for TLS with the upstream and must not take this one for it.
        guard let event = event as? TLSUserEvent, case .handshakeCompleted = event, !self.isOver else {
            return context.fireUserInboundEventTriggered(event)
        }
        self.isSecured = true
        self.beginIfReady()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !self.callOuts.mustWait else { return self.callOuts.keep { self.received(data, context) } }
        self.received(data, context)
    }

    private func received(_ data: NIOAny, _ context: ChannelHandlerContext) {
        guard !self.isOver else { return context.fireChannelRead(data) }
        var bytes = self.unwrapInboundIn(data)
        do throws(OutboundProxyError) {
            try self.receive(&bytes, context)
        } catch {
            self.fail(error)
        }
    }

    private func receive(_ bytes: inout ByteBuffer, _ context: ChannelHandlerContext) throws(OutboundProxyError) {
        switch self.speech {
        case .connect(var handshake):
            let length = try handshake.receive(bytes.readableBytesUInt8Span)
            self.speech = .connect(handshake)
            guard let length else { return }
            bytes.moveReaderIndex(forwardBy: length)
            self.succeed(bytes, context)
        case .socks(var handshake):
            while bytes.readableBytes > 0 {
                let (action, consumed) = try handshake.receive(bytes.readableBytesUInt8Span)
                bytes.moveReaderIndex(forwardBy: consumed)
                self.speech = .socks(handshake)
                switch action {
                case nil: return
                case .send(let answer): self.send(answer, context)
                case .sendLogin:
                    let proxy = self.route.proxy
                    self.send(
                        SOCKSHandshake.login(
                            username: proxy.username?.reveal() ?? "",
                            password: proxy.password?.reveal() ?? ""
                        ),
                        context
                    )
                case .established: return self.succeed(bytes, context)
                }
            }
        case .forward:
            throw .closed(hasSpoken: true)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        guard !self.isOver else { return context.fireChannelInactive() }
        self.becomeInactive()
    }

    private func becomeInactive() {
        guard !self.callOuts.mustWait else { return self.callOuts.keep { self.closed() } }
        self.closed()
    }

    private func closed() {
        switch self.speech {
        case .connect(let handshake): self.fail(handshake.closed())
        case .socks(let handshake): self.fail(handshake.closed())
        case .forward: self.fail(.closed(hasSpoken: false))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !self.isOver else { return context.fireErrorCaught(error) }
        guard !self.callOuts.mustWait else { return self.callOuts.keep { self.caught(error, context) } }
        self.caught(error, context)
    }

    private func caught(_ error: any Error, _ context: ChannelHandlerContext) {
        switch error {
        case is NIOSSLExtraError:
            self.fail(OutboundProxyError(.tls, "has a certificate that is not for \(self.route.proxy.host)"))
        case let error as NIOSSLError where !self.isSecured:
            self.fail(
                OutboundProxyError(
                    .tls,
                    "\(error)".contains("CERTIFICATE_VERIFY_FAILED")
                        ? "has a certificate that cannot be verified (expired, or of an unknown authority: see proxy.tls)"
                        : "failed the TLS handshake; does it speak TLS?"
                )
            )
        default:
            // The channel closes now, and its end tells the others.
            context.close(promise: nil)
        }
    }

    // MARK: Ends

    private func fail(_ error: OutboundProxyError) {
        guard !self.isOver else { return }
        self.isOver = true
        self.context?.close(promise: nil)
        self.dial.refused(error)
    }

    private func succeed(_ rest: ByteBuffer, _ context: ChannelHandlerContext) {
        // The end of a channel that a write closed is on its way here, and must not pass by whoever would get it.
        guard context.channel.isActive else { return }
        self.isOver = true
        guard self.dial.established(context.channel, hasBytes: rest.readableBytes > 0) else { return }
        if rest.readableBytes > 0 {
            context.fireChannelRead(NIOAny(rest))
            context.fireChannelReadComplete()
        }
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
}
