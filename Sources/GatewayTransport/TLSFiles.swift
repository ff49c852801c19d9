// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import NIOSSL

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A file that a `tls` names and that cannot be used, in words for whoever wrote the configuration.
package struct TLSFileError: Error, Hashable, Sendable {
    package enum Key: String, Sendable {
        case caFile
        case certFile
        case keyFile
    }

    package let key: Key
    package let file: String
    /// What is wrong with the file, and what helps; begins with a verb.
    package let reason: String
}

/// Reads the files that a `tls` names.
package enum TLSFiles {
    /// Larger files hold no certificates.
    private static let sizeLimit = 4 * 1024 * 1024

    /// What is wrong with the files that `tls` names; nil if they can be used.
    package static func fault(in tls: TLSClientConfiguration) -> TLSFileError? {
        do {
            _ = try NIOSSLContext.gateway(.gateway(tls), of: tls)
            return nil
        } catch {
            return error
        }
    }

    /// The certificates of a PEM file.
    static func certificates(_ key: TLSFileError.Key, _ file: String) throws(TLSFileError) -> [NIOSSLCertificate] {
        let bytes = try Self.read(key, file)
        guard Self.contains("CERTIFICATE-----", in: bytes) else {
            throw Self.notPEM(key, file, bytes, "certificate", "x509")
        }
        do {
            return try NIOSSLCertificate.fromPEMBytes(bytes)
        } catch {
            let reason = "holds a certificate that cannot be read; it may be cut off"
            throw TLSFileError(key: key, file: file, reason: reason)
        }
    }

    /// The private key of a PEM file.
    static func privateKey(_ file: String) throws(TLSFileError) -> NIOSSLPrivateKey {
        let bytes = try Self.read(.keyFile, file)
        guard Self.contains("PRIVATE KEY-----", in: bytes) else {
            throw Self.notPEM(.keyFile, file, bytes, "private key", "pkey")
        }
        // BoringSSL would ask for the passphrase on the terminal.
        guard !Self.contains("ENCRYPTED", in: bytes) else {
            throw TLSFileError(
                key: .keyFile,
                file: file,
                reason:
                    "is encrypted with a passphrase, which nobody can enter here; openssl pkey -in FILE -out OTHER takes it off"
            )
        }
        do {
            return try NIOSSLPrivateKey(bytes: bytes, format: .pem)
        } catch {
            throw TLSFileError(
                key: .keyFile,
                file: file,
                reason: "holds a private key that cannot be read; it may be cut off"
            )
        }
    }

    private static func notPEM(
        _ key: TLSFileError.Key,
        _ file: String,
        _ bytes: [UInt8],
        _ wanted: String,
        _ command: String
    ) -> TLSFileError {
        let reason =
            if bytes.isEmpty {
                "is empty; it has to hold a \(wanted) in PEM form"
            } else if bytes.first == 0x30 {
                "is in DER form; openssl \(command) -inform DER -in FILE -out OTHER makes PEM of it"
            } else {
                "holds no \(wanted) in PEM form (-----BEGIN …-----)"
            }
        return TLSFileError(key: key, file: file, reason: reason)
    }

    private static func read(_ key: TLSFileError.Key, _ file: String) throws(TLSFileError) -> [UInt8] {
        func failed() -> TLSFileError {
            let reason =
                switch errno {
                case ENOENT, ENOTDIR: "does not exist"
                case EACCES: "cannot be read by the user that this program runs as"
                case EISDIR: "is a directory; it has to be a file"
                default: "cannot be read: \(String(cString: strerror(errno)))"
                }
            return TLSFileError(key: key, file: file, reason: reason)
        }
        // A pipe without a writer would hold the start up.
        let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw failed() }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        while true {
            var count = 0
            let piece = [UInt8](unsafeUninitializedCapacity: 64 * 1024) { buffer, length in
                count = Self.read(descriptor, into: buffer)
                length = max(count, 0)
            }
            guard count >= 0 else { throw failed() }
            if count == 0 { return bytes }
            bytes += piece
            guard bytes.count <= Self.sizeLimit else {
                throw TLSFileError(key: key, file: file, reason: "is larger than 4 MiB, so it is no PEM file")
            }
        }
    }

    private static func read(_ descriptor: Int32, into buffer: UnsafeMutableBufferPointer<UInt8>) -> Int {
        #if canImport(Glibc)
        Glibc.read(descriptor, buffer.baseAddress, buffer.count)
        #elseif canImport(Musl)
        Musl.read(descriptor, buffer.baseAddress, buffer.count)
        #else
        Darwin.read(descriptor, buffer.baseAddress, buffer.count)
        #endif
    }

    private static func contains(_ text: String, in bytes: [UInt8]) -> Bool {
        bytes.firstRange(of: Array(text.utf8)) != nil
    }
}

extension NIOSSLContext {
    /// A context of our client side of TLS; `tls` is what `configuration` was made of.
    static func gateway(
        _ configuration: TLSConfiguration,
        of tls: TLSClientConfiguration
    ) throws(TLSFileError) -> NIOSSLContext {
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch {
            // The files themselves were read before: what is left is that they do not belong together.
            guard let keyFile = tls.keyFile else {
                throw TLSFileError(
                    key: .caFile,
                    file: tls.caFile ?? "",
                    reason: "holds certificates that cannot be used as authorities"
                )
            }
            throw TLSFileError(key: .keyFile, file: keyFile, reason: "is not the key of the certificate in certFile")
        }
    }
}
