// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/lease_journal.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "perseus/format/sha256.h"
#include "tests/support/property.h"

namespace perseus::format {
namespace {

constexpr const char* kBoot = "0f5c5a1e-93a8-4a4b-9d2f-5f3a5b7c9d11";

LeaseRecord sample() {
  return {.gpu = "GPU-8f6d2a10-0000-4000-8000-000000000003",
          .owner = {.pid = 71, .uid = 1000, .job = "gpt3", .client = "rank 3"},
          .baseline = core::Megahertz(1305),
          .boot_id = kBoot,
          .acquired_unix_s = 1'795'000'000};
}

/// A record whose digest is right, whatever its line says.
std::string sealed(const std::string& line) {
  return line + '\n' + *sha256_hex(line) + '\n';
}

std::string refusal(const std::string& bytes) {
  const auto parsed = parse_lease_record(bytes, "a.lease");
  return parsed ? "accepted" : parsed.error().text();
}

TEST(LeaseJournal, WritesOneLineOfJsonAndItsDigest) {
  const std::string line =
      R"({"format":"perseus-lease/1","gpu":"GPU-8f6d2a10-0000-4000-8000-000000000003",)"
      R"("owner":{"pid":71,"uid":1000,"job":"gpt3","client":"rank 3"},"baseline_mhz":1305,)"
      R"("boot_id":"0f5c5a1e-93a8-4a4b-9d2f-5f3a5b7c9d11","acquired_unix_s":1795000000})";
  EXPECT_EQ(write_lease_record(sample()).value(), sealed(line));
  EXPECT_NO_THROW((void)boost::json::parse(line));
}

TEST(LeaseJournal, ReadsWhatItWrote) {
  tests::check_property([](std::uint32_t pid, std::uint32_t uid, const std::string& noise, std::uint16_t mhz,
                           std::uint32_t time) {
    LeaseRecord record = sample();
    record.owner = {.pid = static_cast<pid_t>(pid & 0x7FFFFFFFU),
                    .uid = uid,
                    .job = printable(noise, kMaxLeaseName),
                    .client = printable("q\"\\" + noise, kMaxLeaseName)};
    record.baseline = mhz == 0 ? std::nullopt : std::optional(core::Megahertz(mhz));
    record.acquired_unix_s = time;
    const auto bytes = write_lease_record(record);
    RC_ASSERT(bytes.has_value());
    const auto again = parse_lease_record(*bytes, "again");
    RC_ASSERT(again.has_value());
    RC_ASSERT(*again == record);
  });
}

TEST(LeaseJournal, TheLongestRecordFits) {
  LeaseRecord record = sample();
  record.gpu = std::string(kMaxGpuUuid, 'G');
  record.owner = {.pid = 2147483647,
                  .uid = 4294967295U,
                  .job = std::string(kMaxLeaseName, '"'),
                  .client = std::string(kMaxLeaseName, '\\')};
  record.baseline = core::Megahertz(65535);
  record.acquired_unix_s = 253'402'300'799;
  const auto bytes = write_lease_record(record);
  ASSERT_TRUE(bytes);
  EXPECT_LT(bytes->size(), 1024U);
  EXPECT_EQ(parse_lease_record(*bytes, "x").value(), record);
}

TEST(LeaseJournal, FindsTheCutAtEveryByte) {
  const std::string whole = write_lease_record(sample()).value();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto parsed = parse_lease_record(whole.substr(0, length), "cut");
    ASSERT_FALSE(parsed) << length;
    ASSERT_EQ(parsed.error().code(), core::ErrorCode::kInvalidInput) << length;
  }
}

TEST(LeaseJournal, FindsEveryFlippedBit) {
  const std::string whole = write_lease_record(sample()).value();
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string bad = whole;
    bad[bit / 8] = static_cast<char>(static_cast<unsigned char>(bad[bit / 8]) ^ (1U << (bit % 8)));
    ASSERT_FALSE(parse_lease_record(bad, "flipped")) << "bit " << bit;
  }
}

TEST(LeaseJournal, SaysWhatIsWrong) {
  EXPECT_EQ(refusal(""), "a.lease: 0 bytes that are no lease record: it is cut off, or something else");
  EXPECT_EQ(refusal(std::string(4097, 'x')), "a.lease: the lease record has 4097 bytes; the limit is 4096");
  EXPECT_EQ(refusal("{}\n" + std::string(64, '0') + "\n"),
            "a.lease: the lease record does not have the SHA-256 that it names");
  EXPECT_EQ(refusal(sealed("{}")), R"(a.lease:1:1: member "format" is missing)");
  EXPECT_EQ(refusal(sealed(R"({"format":"perseus-lease/2"})")),
            R"(a.lease:1:11: format is "perseus-lease/2"; this version reads perseus-lease/1)");
}

/// The sample's line with one text replaced by another, sealed.
std::string with(const std::string& from, const std::string& to) {
  const std::string whole = write_lease_record(sample()).value();
  std::string line = whole.substr(0, whole.find('\n'));
  const std::size_t at = line.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return sealed(line.replace(at, from.size(), to));
}

TEST(LeaseJournal, ChecksEveryFieldThoughTheDigestIsRight) {
  EXPECT_EQ(
      refusal(with("GPU-8f6d2a10-0000", "../../etc")),
      R"(a.lease:1:1: gpu is "../../etc-4000-8000-000000000003"; it must be 1 to 96 letters, digits and '-')");
  EXPECT_EQ(refusal(with("\"pid\":71", "\"pid\":-1")),
            R"(a.lease:1:93: "-1" where a whole number from 0 to 2147483647 must stand)");
  EXPECT_EQ(refusal(with("1305", "0")),
            R"(a.lease:1:154: "0" where a whole number from 1 to 65535 must stand)");
  EXPECT_EQ(refusal(with("rank 3", "\\u001b[1m")),
            R"(a.lease:1:1: client is "\u001b[1m"; it must be printable UTF-8 of at most 128 bytes)");
  EXPECT_EQ(
      refusal(with("0f5c5a1e", "0F5C5A1E")),
      R"(a.lease:1:1: boot_id is "0F5C5A1E-93a8-4a4b-9d2f-5f3a5b7c9d11"; it must be a UUID in lower-case letters)");
  EXPECT_EQ(refusal(with("\"job\"", "\"jab\"")), R"(a.lease:1:107: unknown member "jab"; did you mean job?)");
  EXPECT_EQ(refusal(with("1795000000}", "1795000000} x")),
            R"(a.lease:1:238: "x" where the end of the text must stand)");
}

TEST(LeaseJournal, WritesNothingThatItWouldNotRead) {
  LeaseRecord record = sample();
  record.gpu = "a/b";
  EXPECT_EQ(write_lease_record(record).error().text(),
            R"(lease record: gpu is "a/b"; it must be 1 to 96 letters, digits and '-')");
  record = sample();
  record.owner.job = std::string(129, 'j');
  EXPECT_EQ(write_lease_record(record).error().code(), core::ErrorCode::kInvalidInput);
  record = sample();
  record.baseline = core::Megahertz(0);
  EXPECT_EQ(write_lease_record(record).error().text(),
            "lease record: baseline_mhz is 0; it must be 1 to 65535");
  record = sample();
  record.acquired_unix_s = -1;
  EXPECT_EQ(write_lease_record(record).error().text(),
            "lease record: acquired_unix_s is -1; it must be 0 to 253402300799");
}

TEST(LeaseJournal, NamesAnOwner) {
  EXPECT_EQ(owner_text(sample().owner), "gpt3 (pid 71, uid 1000)");
  EXPECT_EQ(owner_text({.pid = 1, .uid = 0, .job = "", .client = "perseus lease"}),
            "perseus lease (pid 1, uid 0)");
  EXPECT_EQ(owner_text({}), "(pid 0, uid 0)");
}

TEST(GpuUuid, IsFitForAFileName) {
  EXPECT_TRUE(is_gpu_uuid("GPU-1"));
  EXPECT_TRUE(is_gpu_uuid(std::string(96, 'a')));
  for (const std::string bad : {"", "-x", ".", "..", "a/b", "a b", "a_b", "GPU-\xc3\xa9"})
    EXPECT_FALSE(is_gpu_uuid(bad)) << bad;
  EXPECT_FALSE(is_gpu_uuid(std::string(97, 'a')));
  EXPECT_FALSE(is_gpu_uuid(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace perseus::format
