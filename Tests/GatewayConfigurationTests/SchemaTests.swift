// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("JSON Schema") struct SchemaTests {
    private let schema: SchemaValidator

    init() throws {
        self.schema = try SchemaValidator(ConfigurationSchema.text)
    }

    @Test("The schema is JSON of the draft it names, ends with a line end and describes every key")
    func isJSON() throws {
        var reader = JSONCReader(
            bytes: Array(ConfigurationSchema.text.utf8),
            bounds: JSONCReader.Bounds(admitsVariables: false)
        )
        let root = try reader.read()
        #expect(reader.findings.all.isEmpty)
        #expect(root["$schema"]?.string == "https://json-schema.org/draft/2020-12/schema")
        #expect(ConfigurationSchema.text.hasSuffix("}\n"))
        func check(_ node: Node) {
            for property in node["properties"]?.members ?? [] {
                #expect(property.value["description"]?.string?.isEmpty == false, "\(property.key)")
            }
            for member in node.members ?? [] { check(member.value) }
            for element in node.elements ?? [] { check(element) }
        }
        check(root)
    }

    @Test(
        "What a schema can see of a mistake, it sees",
        arguments: (Broken.gatewayRows + Broken.serverRows + Broken.optionRows).filter(\.isSeenBySchema)
    )
    func broken(row: Broken) throws {
        #expect(try !self.schema.accepts(row.text))
    }

    @Test(
        "What it does not claim to see, it does not refuse",
        arguments: (Broken.gatewayRows + Broken.serverRows + Broken.optionRows).filter { !$0.isSeenBySchema }
    )
    func unseen(row: Broken) throws {
        #expect(try self.schema.accepts(row.text))
    }

    @Test("People's files are valid", arguments: TBXarkTests.files.map(\.0) + ["summary-plain", "summary-full"])
    func inputs(name: String) throws {
        let text = try Repository.text(of: "Tests/GatewayConfigurationTests/Inputs/\(name).json")
        let isInOtherCase = name.hasSuffix("capital-disabled")
        #expect(try self.schema.accepts(text) == !isInOtherCase)
    }

    @Test(
        "Variables pass wherever they could make a value right",
        arguments: [
            #""url": "${URL}""#, #""url": "https://${HOST}/x", "timeout": "${T}""#,
            #""url": "https://h/", "transportType": "$KIND""#,
            #""url": "https://h/", "options": {"auth": {"rotationMode": "${M:-round-robin}"}, "proxy": "${P}"}"#,
            #""url": "https://h/", "options": {"toolFilter": {"mode": "ALLOW", "list": "${L}"}}"#,
        ]
    )
    func variables(server: String) throws {
        #expect(try self.schema.accepts(document(server: server)))
    }

    @Test("Null passes for every key that is not required, as it does for the reader")
    func null() throws {
        let server = KeyTable.server.keys.filter { $0.name != "url" }.map { "\"\($0.name)\": null" }
            .joined(separator: ", ")
        let options = KeyTable.options.keys.map { "\"\($0.name)\": null" }.joined(separator: ", ")
        for text in [document(server: "\"url\": \"https://h/\", \(server)"), document(options: options)] {
            #expect(load(text).snapshot != nil)
            // Nothing but the command that excludes a url, which a schema counts even where it is null.
            #expect(try self.schema.accepts(text.replacing(#""command": null, "#, with: "")))
        }
    }

    @Test("An unknown key is pointed at")
    func unknownKey() throws {
        #expect(try !self.schema.accepts(document(options: #""autToken": []"#)))
    }
}
