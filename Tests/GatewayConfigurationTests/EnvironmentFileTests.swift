// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTestRandom
import Testing

@testable import GatewayConfiguration

@Suite("The file of --env-file") struct EnvironmentFileTests {
    private func variables(_ text: String) throws -> [String: String] {
        try EnvironmentFile(Array(text.utf8)).merged(below: [:])
    }

    private func fault(_ bytes: [UInt8]) -> EnvironmentFile.Fault? {
        do {
            _ = try EnvironmentFile(bytes)
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "A line is a name and a value, without the white space around them",
        arguments: [
            ("A=1", "1"), ("A=", ""), ("  A\t=\t 1 \t", "1"), ("A=1\r\n", "1"), ("A=1\rB=2", "1"),
            ("A=two words", "two words"),
            ("A==", "="), ("A=a=b", "a=b"), ("_a9=x", nil), ("A=ü–\u{1f511}", "ü–\u{1f511}"), ("\u{feff}A=1", "1"),
            ("A=$B ${B} $$ `x` \\n", "$B ${B} $$ `x` \\n"), ("A=\u{1}", "\u{1}"),
        ] as [(String, String?)]
    )
    func plain(text: String, expected: String?) throws { #expect(try self.variables(text)["A"] == expected) }

    @Test(
        "A comment begins a line, or stands behind white space; a value may have the character in it",
        arguments: [
            ("# A=1\n\n \t\n  # B\nA=1", "1"), ("A=1 # one", "1"), ("A=1\t#one", "1"), ("A=1#2", "1#2"), ("A=#1", "#1"),
            ("A= #1", ""), ("A= # ü\0", ""), ("A='1' # one", "1"), ("A=\"1\"\t#'", "1"), ("A=1 ## # \nB=2", "1"),
        ]
    )
    func comments(text: String, expected: String) throws { #expect(try self.variables(text)["A"] == expected) }

    @Test(
        "In single quotes everything is literal, and in double quotes four escapes count",
        arguments: [
            ("A=''", ""), ("A=\"\"", ""), ("A='  a # \\n $B \"b\" '", "  a # \\n $B \"b\" "), ("A='1'  \r\nB=2", "1"),
            (#"A="a\nb""#, "a\nb"), (#"A="\"\\\$""#, #""\$"#), (#"A="$B ${B} 'x' #""#, "$B ${B} 'x' #"),
            (#"A = "1" "#, "1"), ("A=it's", "it's"), ("A=a\"b\"", "a\"b\""), (#"A=\"x\""#, #"\"x\""#),
        ]
    )
    func quotes(text: String, expected: String) throws { #expect(try self.variables(text)["A"] == expected) }

    @Test(
        "An export before the name says nothing, unless it is the name",
        arguments: [
            ("export A=1", ["A": "1"]), ("  export\t A = 1", ["A": "1"]), ("export=1", ["export": "1"]),
            ("export = 1", ["export": "1"]), ("export export=1", ["export": "1"]), ("exportA=1", ["exportA": "1"]),
        ]
    )
    func export(text: String, expected: [String: String]) throws { #expect(try self.variables(text) == expected) }

    @Test("Of a name that is given twice the last one counts, and nothing is the same as no file")
    func twice() throws {
        #expect(try self.variables("A=1\nB=2\nA='3'\n") == ["A": "3", "B": "2"])
        for text in ["", "\n", " ", "\u{feff}", "# A=1", "\r\r\n\n"] { #expect(try self.variables(text) == [:]) }
    }

    @Test("What the environment of the process has wins, also if it is empty")
    func merging() throws {
        let file = try EnvironmentFile(Array("A=file\nB=file\nC=file".utf8))
        let merged = file.merged(below: ["A": "process", "B": "", "D": "process"])
        #expect(merged == ["A": "process", "B": "", "C": "file", "D": "process"])
    }

    @Test("No text that is made of a file shows a value")
    func secrecy() throws {
        let file = try EnvironmentFile(Array("A=CANARY-secret-value".utf8))
        var text = "\(file) \(String(reflecting: file))"
        dump(file, to: &text)
        #expect(text.contains("•••") && !text.contains("CANARY"))
    }

    @Test(
        "Every other line is an error at its line and column, which says what is accepted and shows nothing of it",
        arguments: [
            ("CANARY", 1, 7, "expected = behind the name"), ("A=1\n\n  CANARY CANARY", 3, 10, "expected ="),
            ("A=1\r\n=CANARY", 2, 1, "no name of a variable begins here"),
            ("9CANARY=1", 1, 1, "not beginning with a digit"),
            ("CANARY-X=1", 1, 7, "expected ="), ("ü=CANARY", 1, 1, "a name is letters"),
            ("'A'=CANARY", 1, 1, "no name"),
            ("export", 1, 7, "expected ="), ("export CANARY", 1, 14, "expected ="), ("export 9=1", 1, 8, "no name"),
            ("export -CANARY=1", 1, 8, "expected ="), ("export A B=1", 1, 10, "expected ="),
            ("A\0=1", 1, 2, "expected ="),
            ("A=1\n \t\u{b}CANARY", 2, 3, "no name"), ("\u{feff}\u{feff}A=1", 1, 1, "no name"),
            ("A='CANARY", 1, 3, "this quote has no end"), ("A=ü\nB= \"CANARY\nC=\"", 2, 4, "this quote has no end"),
            (#"A="CANARY\""#, 1, 3, "this quote has no end"), ("A='CANARY\r'", 1, 3, "this quote has no end"),
            (#"A="é\t""#, 1, 5, "in double quotes a backslash begins"), (#"A="CANARY\"#, 1, 10, "in double quotes"),
            ("A=\"\\\nCANARY\"", 1, 4, "in double quotes"), ("A='1'CANARY", 1, 6, "expected the end of the line"),
            ("A='1' CANARY", 1, 7, "expected the end of the line"), ("A=\"1\"#CANARY", 1, 6, "white space and #"),
            ("A='1''CANARY'", 1, 6, "expected the end of the line"), ("A=CANARY\0", 1, 9, "found a NUL byte"),
            ("A='\0CANARY'", 1, 4, "found a NUL byte"), ("A=\"\0\"", 1, 4, "found a NUL byte"),
        ] as [(String, Int, Int, String)]
    )
    func faults(text: String, line: Int, column: Int, reason: String) throws {
        let fault = try #require(self.fault(Array(text.utf8)))
        #expect((fault.line, fault.column) == (line, column))
        #expect(fault.message.contains(reason) && !fault.message.contains("CANARY"), "\(fault.message)")
        #expect(fault.rendered(sourceName: ".env") == ".env:\(line):\(column): error: \(fault.message)")
    }

    @Test("What is not UTF-8 is an error at the first byte that is not")
    func encoding() throws {
        let latin = try #require(self.fault(Array("A=1\nB=x".utf8) + [0xe9] + Array("\nC=1".utf8)))
        #expect((latin.line, latin.column) == (2, 4))
        #expect(latin.message.contains("not UTF-8"))
        #expect(self.fault([0xff, 0xfe, 0x41, 0])?.message.contains("UTF-16") == true)
        // Also where nothing would be read.
        #expect(self.fault(Array("# ".utf8) + [0x80]) != nil)
    }

    @Test("A file has 1 MiB at most")
    func size() throws {
        let line = Array("A=".utf8)
        let full = line + Array(repeating: 0x61, count: EnvironmentFile.sizeLimit - line.count)
        #expect(try EnvironmentFile(full).merged(below: [:])["A"]?.utf8.count == EnvironmentFile.sizeLimit - 2)
        #expect(self.fault(full + [0x61])?.message == "larger than 1 MiB")
        // No depth of anything ends the process.
        let exports = Array(String(repeating: "export ", count: EnvironmentFile.sizeLimit / 7).utf8)
        #expect(self.fault(exports)?.column == 15)
    }

    @Test(
        "Bytes of any kind are read or refused, and what is read has a name and no NUL",
        arguments: 0..<20 as Range<UInt64>
    )
    func anyBytes(seed: UInt64) {
        var random = SplitMix(seed: seed)
        let pieces = [
            "A", "b9", "=", "=", " ", "\t", "\n", "\r", "#", "'", "\"", "\\", "$", "export ", "\0", "ü", "\u{feff}",
            "\\n",
        ]
        .map { Array($0.utf8) }
        for _ in 0..<500 {
            var bytes: [UInt8] = []
            for _ in 0..<random.below(24) { bytes += pieces[random.below(pieces.count)] }
            if random.below(20) == 0 { bytes.append(UInt8(random.below(256))) }
            guard let file = try? EnvironmentFile(bytes) else { continue }
            for (name, value) in file.merged(below: [:]) {
                #expect(VariableName.isValid(name.utf8) && !value.utf8.contains(0))
            }
        }
    }
}
