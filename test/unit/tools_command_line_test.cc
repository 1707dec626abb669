// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "tools/command_line.h"

namespace stablefs {
namespace {

TEST_CASE("sizes have suffixes in powers of 1024") {
  CHECK(parse_size("0").value() == 0);
  CHECK(parse_size("4096").value() == 4096);
  CHECK(parse_size("1K").value() == 1024);
  CHECK(parse_size("3m").value() == 3ull << 20);
  CHECK(parse_size("8GiB").value() == 8ull << 30);
  CHECK(parse_size("2TB").value() == 2ull << 40);
}

TEST_CASE("what is no size is refused") {
  for (const char* text : {"", "G", "-1", "1.5G", "1GG", "1Gi", "4096 ", " 1", "0x10", "16E",
                           "99999999999999999999", "18446744073709551616"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text).ok());
  }
  CHECK(parse_size("15E").ok());
}

TEST_CASE("UUIDs are read with and without dashes and written with") {
  const auto bytes = parse_hex16("01234567-89ab-CDEF-0123-456789abcdef").value();
  CHECK(bytes == parse_hex16("0123456789abcdef0123456789abcdef").value());
  uint8_t raw[16];
  std::copy(bytes.begin(), bytes.end(), raw);
  CHECK(uuid_text(raw) == "01234567-89ab-cdef-0123-456789abcdef");
  for (const char* text :
       {"", "0123", "0123456789abcdef0123456789abcdeg", "0123456789abcdef0123456789abcdef0"}) {
    INFO(text);
    CHECK_FALSE(parse_hex16(text).ok());
  }
}

}  // namespace
}  // namespace stablefs
