// SPDX-License-Identifier: GPL-2.0-or-later
// What the programs have in common: one line about an error on stderr, sizes with suffixes.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace stablefs {

inline constexpr int kExitUsage = 1;

// Parses into the options bound to `app`. A value is the exit status to leave with: help or version
// was printed, or the arguments are wrong (`usage_status`).
std::optional<int> parse_arguments(CLI::App& app, int argc, char** argv,
                                   int usage_status = kExitUsage);

// "PROGRAM: MESSAGE" on stderr; returns `status`.
int fail(const char* program, std::string_view message, int status = 1);
int fail(const char* program, const Error& error, int status = 1);

// Bytes, or a number with a suffix K, M, G or T (powers of 1024), also written KiB or KB.
Result<uint64_t> parse_size(std::string_view text);
Result<uint64_t> parse_number(std::string_view text);

// 32 hexadecimal digits, dashes between them ignored.
Result<std::array<uint8_t, 16>> parse_hex16(std::string_view text);
// From the system: for identities (uuid, hash seed, journal epoch), never for decisions of the
// core.
std::array<uint8_t, 16> random_bytes16();
std::string uuid_text(const uint8_t (&uuid)[16]);

}  // namespace stablefs
