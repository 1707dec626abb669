// SPDX-License-Identifier: GPL-2.0-or-later
// Fixed-endian integers for structures on disk: alignment 1, so that a struct of them has no
// padding and may be laid over any byte of a buffer.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace stablefs {

template <class T, std::endian Order>
class Endian {
 public:
  Endian() = default;
  Endian(T v) { store(v); }  // NOLINT: implicit on purpose, a disk field is used like its integer
  Endian& operator=(T v) {
    store(v);
    return *this;
  }
  operator T() const { return load(); }  // NOLINT

 private:
  static T convert(T v) {
    if constexpr (Order == std::endian::native || sizeof(T) == 1) return v;
    if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(v));
    if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(v));
    if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(v));
  }
  T load() const {
    T v;
    std::memcpy(&v, bytes_, sizeof v);
    return convert(v);
  }
  void store(T v) {
    v = convert(v);
    std::memcpy(bytes_, &v, sizeof v);
  }

  unsigned char bytes_[sizeof(T)];
};

using le16 = Endian<uint16_t, std::endian::little>;
using le32 = Endian<uint32_t, std::endian::little>;
using le64 = Endian<uint64_t, std::endian::little>;
using be16 = Endian<uint16_t, std::endian::big>;
using be32 = Endian<uint32_t, std::endian::big>;

static_assert(sizeof(le64) == 8 && alignof(le64) == 1 && std::is_trivially_copyable_v<le64>);

}  // namespace stablefs
