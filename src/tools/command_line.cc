// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/command_line.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <charconv>
#include <cstdio>

namespace stablefs {

std::optional<int> parse_arguments(CLI::App& app, int argc, char** argv, int usage_status) {
  app.name(argv[0]);
  app.set_version_flag("--version", "stablefs " STABLEFS_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::CallForVersion&) {
    std::puts(app.version().c_str());
    return 0;
  } catch (const CLI::ParseError& error) {
    std::string line = error.what();
    for (char& c : line) {
      if (c == '\n') c = ' ';
    }
    return fail(argv[0], line, usage_status);
  }
  return std::nullopt;
}

int fail(const char* program, std::string_view message, int status) {
  fmt::print(stderr, "{}: {}\n", program, message);
  return status;
}

int fail(const char* program, const Error& error, int status) {
  return fail(program, error.message(), status);
}

Result<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error(ErrorCode::invalid_argument, fmt::format("'{}' is not a number", text));
  }
  return value;
}

Result<uint64_t> parse_size(std::string_view text) {
  const Error bad(ErrorCode::invalid_argument,
                  fmt::format("'{}' is not a size (examples: 4096, 64M, 2G)", text));
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const Result<uint64_t> number = parse_number(text.substr(0, digits));
  if (!number.ok()) return bad;
  std::string_view suffix = text.substr(digits);
  if (suffix.empty()) return *number;
  constexpr std::string_view kSuffixes = "KMGTPE";
  const size_t power = kSuffixes.find(static_cast<char>(suffix[0] & ~0x20));
  suffix.remove_prefix(1);
  if (power == std::string_view::npos) return bad;
  if (!suffix.empty() && suffix != "B" && suffix != "iB") return bad;
  uint64_t bytes;
  if (__builtin_mul_overflow(*number, uint64_t{1} << (10 * (power + 1)), &bytes)) return bad;
  return bytes;
}

Result<std::array<uint8_t, 16>> parse_hex16(std::string_view text) {
  const Error bad(ErrorCode::invalid_argument,
                  fmt::format("'{}' is not 32 hexadecimal digits", text));
  std::array<uint8_t, 16> out{};
  size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const char lower = static_cast<char>(c | 0x20);
    const bool decimal = c >= '0' && c <= '9';
    if (!decimal && (lower < 'a' || lower > 'f')) return bad;
    if (digits == 32) return bad;
    const int value = decimal ? c - '0' : lower - 'a' + 10;
    out[digits / 2] = static_cast<uint8_t>(out[digits / 2] << 4 | value);
    ++digits;
  }
  if (digits != 32) return bad;
  return out;
}

std::array<uint8_t, 16> random_bytes16() {
  std::array<uint8_t, 16> out;
  // 16 bytes are never interrupted or short once the pool is seeded (getrandom(2)).
  FS_ASSERT(::getrandom(out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
  return out;
}

std::string uuid_text(const uint8_t (&uuid)[16]) {
  std::string out;
  for (size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", uuid[i]);
  }
  return out;
}

}  // namespace stablefs
