// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "format/journal.h"
#include "integrity/tuple.h"

using namespace stablefs;

namespace {

using Bytes = std::vector<std::byte>;

const uint8_t kEpoch[16] = {1, 2, 3};

Bytes value_of(size_t length, uint8_t fill) {
  return Bytes(length, static_cast<std::byte>(fill));
}

Bytes example_body() {
  Bytes body;
  append_put(body, Key(5, 1, 9), value_of(100, 0x11));
  append_erase(body, Key(6, 2, 10));
  append_range(body, JournalOp::allocate, {Lba(1000), 50});
  append_range(body, JournalOp::free, {Lba(2000), 1});
  const uint32_t checksums[] = {7, 8, 9};
  append_data_checksums(body, {Lba(3000), 3}, checksums);
  append_put(body, Key(5, 3, 9), {});
  return body;
}

struct BatchBuilder {
  Bytes records;
  uint32_t count = 0;
  uint64_t first = 10;

  void add(const Bytes& body, uint32_t ops) {
    DiskRecordHeader record;
    record.length_bytes = static_cast<uint32_t>(sizeof record + body.size());
    record.op_count = ops;
    record.sequence = first + count++;
    const auto* raw = reinterpret_cast<const std::byte*>(&record);
    records.insert(records.end(), raw, raw + sizeof record);
    records.insert(records.end(), body.begin(), body.end());
  }
  Bytes seal() const {
    const size_t bytes = sizeof(DiskBatchHeader) + records.size();
    Bytes batch(blocks_for_bytes(bytes) * kBlockSize);
    std::copy(records.begin(), records.end(), batch.begin() + sizeof(DiskBatchHeader));
    BatchInfo info{};
    std::memcpy(info.epoch, kEpoch, sizeof kEpoch);
    info.first = Sequence(first);
    info.last = Sequence(first + count - 1);
    info.flushed = Sequence(first - 1);
    info.previous_checksum = 0x1234;
    seal_batch(batch, info, static_cast<uint32_t>(records.size()), count);
    return batch;
  }
};

Bytes example_batch() {
  BatchBuilder builder;
  builder.add(example_body(), 6);
  builder.add({}, 0);
  Bytes large;
  for (uint64_t i = 0; i < 8; ++i) append_put(large, Key(i + 1, 1, 0), value_of(1000, 0x22));
  builder.add(large, 8);
  return builder.seal();
}

DiskBatchHeader header_of(const Bytes& batch) {
  DiskBatchHeader header;
  std::memcpy(&header, batch.data(), sizeof header);
  return header;
}

// As seal_batch would, but over whatever the bytes are now.
void reseal(Bytes& batch) {
  DiskBatchHeader header = header_of(batch);
  header.checksum = 0;
  std::memcpy(batch.data(), &header, sizeof header);
  const uint32_t seed = crc32c(0, std::as_bytes(std::span(header.epoch)));
  header.checksum = crc32c(seed, batch);
  std::memcpy(batch.data(), &header, sizeof header);
}

}  // namespace

TEST_CASE("a batch gives back the operations that went in", "[format]") {
  const Bytes batch = example_batch();
  REQUIRE(validate_batch(batch).ok());
  const DiskBatchHeader header = parse_batch_header(batch, kEpoch, 1000).value();
  CHECK(header.first_sequence == 10);
  CHECK(header.last_sequence == 12);
  CHECK(header.record_count == 3);
  CHECK(header.previous_checksum == 0x1234);
  CHECK(header.length_blocks == 3);
  std::vector<uint64_t> sequences;
  std::vector<std::string> texts;
  auto status = for_each_record(
      batch, [&](Sequence sequence, uint32_t op_count, std::span<const std::byte> body) {
        sequences.push_back(sequence.value);
        return for_each_operation(body, op_count, [&](const JournalOperation& operation) {
          if (sequence == Sequence(10)) texts.push_back(operation_to_text(operation));
          if (operation.op == JournalOp::put && operation.key == Key(5, 1, 9)) {
            CHECK(std::ranges::equal(operation.value, value_of(100, 0x11)));
          }
          if (operation.op == JournalOp::data_checksums) {
            CHECK(operation.value.size() == 12);
            CHECK(operation.value[4] == std::byte{8});
          }
          return Status();
        });
      });
  REQUIRE(status.ok());
  CHECK(sequences == std::vector<uint64_t>{10, 11, 12});
  REQUIRE(texts.size() == 6);
  CHECK(texts[1] == "erase 6 dirent 10");
  CHECK(texts[2] == "allocate 1000+50");
  CHECK(texts[3] == "free 2000+1");
  CHECK(texts[4] == "data_checksums 3000+3");
}

TEST_CASE("an empty batch carries only the flushed sequence", "[format]") {
  Bytes batch(kBlockSize);
  BatchInfo info{};
  info.first = Sequence(1);
  info.last = Sequence(0);
  seal_batch(batch, info, 0, 0);
  CHECK(validate_batch(batch).ok());
  CHECK(parse_batch_header(batch, info.epoch, 256).ok());
}

TEST_CASE("a batch of another epoch or longer than the ring is none of ours", "[format]") {
  const Bytes batch = example_batch();
  const uint8_t other[16] = {1, 2, 4};
  CHECK(parse_batch_header(batch, other, 1000).error().code() == ErrorCode::batch_invalid);
  CHECK(parse_batch_header(batch, kEpoch, 2).error().code() == ErrorCode::batch_invalid);
  CHECK(parse_batch_header(batch, kEpoch, 3).ok());
  CHECK_FALSE(parse_batch_header(std::span(batch).first(100), kEpoch, 1000).ok());
}

TEST_CASE("the checksum of a batch depends on the epoch", "[format]") {
  Bytes batch = example_batch();
  DiskBatchHeader header = header_of(batch);
  const uint32_t unseeded_checksum = [&] {
    DiskBatchHeader zeroed = header;
    zeroed.checksum = 0;
    Bytes copy = batch;
    std::memcpy(copy.data(), &zeroed, sizeof zeroed);
    return crc32c(0, copy);
  }();
  CHECK(header.checksum != unseeded_checksum);
  header.checksum = unseeded_checksum;
  std::memcpy(batch.data(), &header, sizeof header);
  CHECK_FALSE(validate_batch(batch).ok());
}

TEST_CASE("a torn batch is not valid whichever sectors are missing", "[format]") {
  const Bytes batch = example_batch();
  const size_t used = sizeof(DiskBatchHeader) + header_of(batch).record_bytes;
  for (size_t sector = 0; sector * 512 < used; ++sector) {
    Bytes torn = batch;
    std::memset(torn.data() + sector * 512, 0, 512);
    INFO(sector);
    CHECK_FALSE(validate_batch(torn).ok());
    // The previous contents of the ring may be there instead of zeros.
    std::memset(torn.data() + sector * 512, 0x5A, 512);
    CHECK_FALSE(validate_batch(torn).ok());
  }
  CHECK_FALSE(validate_batch(std::span(batch).first(kBlockSize)).ok());
}

TEST_CASE("a sealed batch with one impossible header field is refused", "[format]") {
  struct Damage {
    const char* name;
    std::function<void(DiskBatchHeader&)> apply;
  };
  const Damage damages[] = {
      {"magic", [](auto& h) { h.magic = 0; }},
      {"first sequence 0", [](auto& h) { h.first_sequence = 0; }},
      {"first sequence", [](auto& h) { h.first_sequence = 9; }},
      {"last sequence", [](auto& h) { h.last_sequence = 13; }},
      {"sequences from the end", [](auto& h) { h.last_sequence = ~0ull; }},
      {"flushed sequence", [](auto& h) { h.flushed_sequence = 13; }},
      {"length 0", [](auto& h) { h.length_blocks = 0; }},
      {"length", [](auto& h) { h.length_blocks = 4; }},
      {"record bytes", [](auto& h) { h.record_bytes = h.record_bytes - 1; }},
      {"huge record bytes", [](auto& h) { h.record_bytes = ~0u; }},
      {"record count", [](auto& h) { h.record_count = 2; }},
      {"reserved", [](auto& h) { h.reserved[63] = 1; }},
  };
  for (const Damage& damage : damages) {
    INFO(damage.name);
    Bytes batch = example_batch();
    DiskBatchHeader header = header_of(batch);
    damage.apply(header);
    std::memcpy(batch.data(), &header, sizeof header);
    reseal(batch);
    CHECK_FALSE(validate_batch(batch).ok());
  }
}

TEST_CASE("a record with impossible operands is refused", "[format]") {
  auto ignore = [](const JournalOperation&) { return Status(); };
  const Bytes good = example_body();
  REQUIRE(for_each_operation(good, 6, ignore).ok());
  CHECK_FALSE(for_each_operation(good, 5, ignore).ok());
  CHECK_FALSE(for_each_operation(good, 7, ignore).ok());
  for (size_t length = 0; length < good.size(); ++length) {
    CHECK_FALSE(for_each_operation(std::span(good).first(length), 6, ignore).ok());
  }
  auto refused = [&](size_t offset, uint8_t byte) {
    Bytes body = good;
    body[offset] = static_cast<std::byte>(byte);
    return !for_each_operation(body, 6, ignore).ok();
  };
  CHECK(refused(0, 0));  // unknown operation
  CHECK(refused(0, 6));
  CHECK(refused(17, 0));     // key without a kind
  CHECK(refused(19, 0xFF));  // value beyond the limit
  Bytes range;
  append_range(range, JournalOp::free, {Lba(1), 1});
  CHECK(for_each_operation(range, 1, ignore).ok());
  range[1] = std::byte{0};  // LBA 0
  CHECK_FALSE(for_each_operation(range, 1, ignore).ok());
  std::memset(range.data() + 1, 0xFF, 8);  // wraps around
  CHECK_FALSE(for_each_operation(range, 1, ignore).ok());
}

TEST_CASE("records out of sequence or badly framed are refused", "[format]") {
  const size_t first_record = sizeof(DiskBatchHeader);
  auto damaged = [&](const std::function<void(DiskRecordHeader&)>& apply) {
    Bytes batch = example_batch();
    DiskRecordHeader record;
    std::memcpy(&record, batch.data() + first_record, sizeof record);
    apply(record);
    std::memcpy(batch.data() + first_record, &record, sizeof record);
    reseal(batch);
    const Status status = validate_batch(batch);
    REQUIRE_FALSE(status.ok());
    return status.error().code();
  };
  CHECK(damaged([](auto& r) { r.sequence = 11; }) == ErrorCode::record_invalid);
  CHECK(damaged([](auto& r) { r.length_bytes = 15; }) == ErrorCode::record_invalid);
  CHECK(damaged([](auto& r) { r.length_bytes = ~0u; }) == ErrorCode::record_invalid);
  CHECK(damaged([](auto& r) { r.length_bytes = r.length_bytes + 1; }) == ErrorCode::record_invalid);
  CHECK(damaged([](auto& r) { r.op_count = ~0u; }) == ErrorCode::record_invalid);
}

TEST_CASE("the padding behind the records is zero", "[format]") {
  Bytes batch = example_batch();
  batch.back() = std::byte{1};
  reseal(batch);
  CHECK_FALSE(validate_batch(batch).ok());
}

TEST_CASE("random sealed batches never crash validation or text", "[format]") {
  Prng prng(13);
  const Bytes good = example_batch();
  for (int round = 0; round < 5000; ++round) {
    Bytes batch = good;
    const uint64_t changes = 1 + prng.below(6);
    for (uint64_t i = 0; i < changes; ++i) {
      batch[prng.chance(2) ? prng.below(400) : prng.below(batch.size())] =
          static_cast<std::byte>(prng.next());
    }
    reseal(batch);
    (void)parse_batch_header(batch, kEpoch, 1000);
    CHECK_FALSE(batch_to_text(header_of(batch)).empty());
    if (!validate_batch(batch).ok()) continue;
    CHECK(for_each_record(batch, [](Sequence, uint32_t ops, std::span<const std::byte> body) {
            return for_each_operation(body, ops, [](const JournalOperation& operation) {
              CHECK_FALSE(operation_to_text(operation).empty());
              return Status();
            });
          }).ok());
  }
}
