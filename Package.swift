// swift-tools-version: 6.2
// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// `GATEWAY_CORE_ONLY=1` leaves out everything that needs NIO: what remains builds and tests in seconds, also under
/// the sanitizers.
let coreOnly = Context.environment["GATEWAY_CORE_ONLY"] == "1"

/// `GATEWAY_TESTED=1 swift test -c release` tests what the other leaves out.
///
/// The modules of this package are built without optimization and with counters of their coverage, beside the release
/// build and with the same dependencies, which are then built once for both (docs/decisions/0040-dependencies-are-built-once.md).
let tested = Context.environment["GATEWAY_TESTED"] == "1"

let settings: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .treatAllWarnings(as: .error),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    ]
    + (tested
        ? [.unsafeFlags(["-Onone", "-enable-testing", "-profile-generate", "-profile-coverage-mapping"])]
        : [])

/// What writes the counters down.
let counted = LinkerSetting.unsafeFlags(["-profile-generate"])

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(of name: String, _ dependencies: [Target.Dependency] = [], resources: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests",
        dependencies: [.init(stringLiteral: name)] + dependencies,
        exclude: resources,
        swiftSettings: settings,
        linkerSettings: tested ? [counted] : []
    )
}

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

let coreTargets: [Target] = [
    module("GatewayWire"),
    module("GatewayPolicy"),
    module("GatewaySession", ["GatewayWire", "GatewayPolicy", collections]),
    module("GatewayModel", ["GatewayWire", "GatewayPolicy"]),
    module("GatewayConfiguration", ["GatewayWire", "GatewayPolicy", "GatewayModel"]),
    module("GatewayObservability", ["GatewayWire", "GatewayModel", logging, collections]),
    .target(name: "GatewayTestRandom", path: "Tests/GatewayTestRandom", swiftSettings: settings),
]

let coreTests: [Target] = [
    tests(of: "GatewayWire", ["GatewayTestRandom"]),
    tests(of: "GatewayPolicy", ["GatewayTestRandom"]),
    tests(of: "GatewaySession", ["GatewayTestRandom", "GatewayWire", "GatewayPolicy"]),
    tests(of: "GatewayModel", ["GatewayWire"]),
    tests(
        of: "GatewayConfiguration",
        ["GatewayTestRandom", "GatewayWire", "GatewayPolicy", "GatewayModel"],
        resources: ["Inputs"]
    ),
    tests(
        of: "GatewayObservability",
        ["GatewayTestRandom", "GatewayWire", "GatewayPolicy", "GatewayModel", logging]
    ),
]

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")
let systemPackage = Target.Dependency.product(
    name: "SystemPackage",
    package: "swift-system",
    condition: .when(platforms: [.linux])
)
let unixSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")

let gatewayTargets: [Target] = [
    .target(name: "CGatewayProcess"),
    .systemLibrary(name: "CGatewayZlib", providers: [.apt(["zlib1g-dev"])]),
    module("GatewayBytes", [nioCore]),
    module(
        "GatewayTransport",
        [
            "CGatewayZlib", "GatewayBytes", "GatewayWire", "GatewayPolicy", "GatewayModel", "GatewayObservability",
            nioCore, nioPosix, nioTLS, nioSSL,
        ]
    ),
    module(
        "GatewayStdio",
        [
            "GatewayBytes", "GatewayWire", "GatewayModel", "GatewayObservability", nioCore, nioPosix, logging,
            subprocess,
            systemPackage,
        ]
    ),
    module(
        "GatewayRuntime",
        [
            "CGatewayProcess", "GatewayBytes", "GatewayWire", "GatewayPolicy", "GatewaySession", "GatewayModel",
            "GatewayObservability", "GatewayTransport", "GatewayStdio", nioCore, nioPosix, logging, collections,
        ]
    ),
    module(
        "GatewayServer",
        [
            "GatewayBytes", "GatewayWire", "GatewayPolicy", "GatewaySession", "GatewayModel", "GatewayObservability",
            "GatewayTransport", "GatewayStdio",
            "GatewayRuntime", nioCore, nioPosix, logging,
        ]
    ),
    .target(
        name: "GatewayTesting",
        dependencies: ["CGatewayZlib", nioCore, nioPosix],
        path: "Tests/GatewayTesting",
        swiftSettings: settings
    ),
    tests(of: "GatewayBytes", ["GatewayTestRandom", nioCore]),
    tests(
        of: "GatewayStdio",
        ["GatewayTesting", "GatewayWire", "GatewayModel", "GatewayObservability", nioCore, nioPosix, logging]
    ),
    tests(
        of: "GatewayRuntime",
        [
            "GatewayTesting", "GatewayWire", "GatewayPolicy", "GatewaySession", "GatewayModel", "GatewayObservability",
            "GatewayTransport", nioCore, nioPosix, nioEmbedded, logging,
        ]
    ),
    tests(
        of: "GatewayServer",
        [
            "GatewayTesting",
            "GatewayWire", "GatewaySession", "GatewayModel", "GatewayObservability", "GatewayTransport", "GatewayStdio",
            "GatewayRuntime", nioCore, nioPosix, logging,
        ]
    ),
]

/// Links the Swift runtime into the release build, so that the program runs where there is no Swift.
///
/// What it uses of Foundation needs two more libraries, which the linker does not find out by itself. Tests start the program
/// as well; theirs counts its coverage.
let programLinking: [LinkerSetting] = [
    tested
        ? counted
        : .unsafeFlags(
            ["-static-stdlib", "-l_FoundationCShims", "-l_FoundationCollections"],
            .when(platforms: [.linux], configuration: .release)
        )
]

let program: [Target] = [
    .executableTarget(
        name: "mcp-proxy",
        dependencies: [
            "CGatewayProcess", "GatewayWire", "GatewayPolicy", "GatewaySession", "GatewayModel", "GatewayConfiguration",
            "GatewayObservability", "GatewayTransport", "GatewayStdio", "GatewayRuntime", "GatewayServer",
            argumentParser, lifecycle, unixSignals, nioCore, nioPosix, logging,
        ],
        swiftSettings: settings,
        linkerSettings: programLinking
    )
]

let package = Package(
    name: "mcp-proxy",
    platforms: [.macOS(.v26)],
    products: coreOnly ? [] : [.executable(name: "mcp-proxy", targets: ["mcp-proxy"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ]
        + (coreOnly
            ? []
            : [
                .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
                .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
                .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
                .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
                // Without its traits: they would bring Foundation into the program.
                .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2", traits: []),
                .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
            ]),
    targets: coreTargets + (tested ? [] : coreTests) + (coreOnly ? [] : gatewayTargets)
        + (coreOnly ? [] : program)
)
