// Names of devices, what each GPU can hold, and that the emulator refuses what its GPU would.
#include <gtest/gtest.h>

#include "runtime/device.h"
#include "runtime/ptx_emulator/emulator.h"
#include "runtime/schedule_cache.h"

namespace weft {
namespace {

TEST(Devices, emulatedGpusHaveNames) {
  EXPECT_EQ(name(parseDevice("ptx-emulator")), "ptx-emulator");
  EXPECT_EQ(name(parseDevice("ptx-emulator:sm_89")), "ptx-emulator:sm_89");
  EXPECT_EQ(parseDevice("ptx-emulator:sm_80"), parseDevice("ptx-emulator"));
  for (const char *wrong :
       {"ptx-emulator:", "ptx-emulator:sm_70", "ptx-emulator:sm_90a", "ptx-emulator:89", "ptx-emulatorsm_89"})
    EXPECT_THROW(parseDevice(wrong), std::runtime_error) << wrong;
}

TEST(Devices, limits) {
  const std::pair<const char *, int64_t> known[] = {{"ptx-emulator", 166912},
                                                    {"ptx-emulator:sm_86", 101376},
                                                    {"ptx-emulator:sm_89", 101376},
                                                    {"ptx-emulator:sm_90", 232448},
                                                    {"ptx-emulator:sm_120", 101376}};
  for (const auto &[own, bytes] : known) {
    const DeviceLimits limits = limitsOf(parseDevice(own));
    EXPECT_EQ(limits.sharedBytesPerBlock, bytes) << own;
    EXPECT_EQ(limits.maxGridX, 2147483647);
    EXPECT_EQ(limits.maxThreadsPerBlock, 1024);
    EXPECT_EQ(limits.registersPerBlock, 65536);
  }
  EXPECT_EQ(limitsOfArchitecture(13, 7).sharedBytesPerBlock, 101376);  // of none yet: the least
  EXPECT_GT(limitsOf({}).sharedBytesPerBlock, int64_t{1} << 60);
}

TEST(Devices, codeOfOneArchitectureWhereItIsAskedFor) {
  const Device hopper = parseDevice("ptx-emulator:sm_90"), other = parseDevice("ptx-emulator:sm_89");
  EXPECT_EQ(targetOf(hopper), "sm_80");
  EXPECT_EQ(architectureOf(hopper), "sm_90");
  const auto schedules = ScheduleCache(hopper).path(), others = ScheduleCache(other).path();
  setenv("WEFT_GPU", "sm_90a", 1);
  EXPECT_EQ(targetOf(hopper), "sm_90a");
  EXPECT_EQ(architectureOf(hopper), "sm_90a");
  EXPECT_EQ(targetOf(other), "sm_80");
  EXPECT_EQ(architectureOf(other), "sm_89");
  // Schedules that were tuned for the one are none for the other.
  EXPECT_NE(ScheduleCache(hopper).path(), schedules);
  EXPECT_EQ(ScheduleCache(other).path(), others);
  setenv("WEFT_GPU", "sm_99", 1);
  EXPECT_THROW(targetOf(hopper), std::runtime_error);
  unsetenv("WEFT_GPU");
}

std::string errorOf(const std::string &target, const std::string &directives, const ptx::Launch &launch) {
  const ptx::Module module(".version 8.0\n.target " + target + "\n.address_size 64\n.visible .entry t()\n" +
                           directives + "\n{\nret;\n}\n");
  try {
    module.run("t", launch);
  } catch (const std::exception &error) {
    return error.what();
  }
  return "";
}

ptx::Launch launchOf(int capability, int threads = 32, int64_t sharedBytes = 0, int64_t blocks = 1) {
  ptx::Launch launch;
  launch.capability = capability;
  launch.threads = threads;
  launch.sharedBytes = sharedBytes;
  launch.blocks = blocks;
  return launch;
}

TEST(Devices, refuseWhatTheyCannotRun) {
  EXPECT_EQ(errorOf("sm_80", "", launchOf(80)), "");
  EXPECT_EQ(errorOf("sm_80", "", launchOf(120)), "");
  EXPECT_EQ(errorOf("sm_90a", "", launchOf(90)), "");
  EXPECT_EQ(errorOf("sm_100f", "", launchOf(103)), "");
  const std::pair<const char *, int> unknown[] = {{"sm_89", 80},    {"sm_90a", 89},  {"sm_90a", 100}, {"sm_100f", 120},
                                                  {"sm_103f", 100}, {"compute", 80}, {"sm_", 80}};
  for (const auto &[target, capability] : unknown)
    EXPECT_NE(errorOf(target, "", launchOf(capability)).find("does not run on sm_" + std::to_string(capability)),
              std::string::npos)
        << target;
}

TEST(Devices, refuseLaunchesThatAreTooLarge) {
  EXPECT_EQ(errorOf("sm_80", "", launchOf(80, 1024, 166912)), "");
  EXPECT_NE(errorOf("sm_80", "", launchOf(80, 32, 166913))
                .find("wants 166913 bytes of shared memory a block, sm_80 has 166912"),
            std::string::npos);
  EXPECT_NE(errorOf("sm_80", "", launchOf(89, 32, 101377)).find("sm_89 has 101376"), std::string::npos);
  EXPECT_EQ(errorOf("sm_80", "", launchOf(90, 32, 232448)), "");
  EXPECT_NE(errorOf("sm_80", "", launchOf(80, 1025)).find("1025 threads a block"), std::string::npos);
  EXPECT_NE(errorOf("sm_80", "", launchOf(80, 32, 0, 2147483648)).find("2147483648 blocks"), std::string::npos);
  EXPECT_NE(errorOf("sm_80", "", launchOf(80, 0)).find("empty block"), std::string::npos);
  EXPECT_NE(errorOf("sm_80", "", launchOf(80, 32, -1)).find("negative"), std::string::npos);
}

TEST(Devices, keepToTheKernelsDirectives) {
  EXPECT_EQ(errorOf("sm_80", ".maxntid 16, 8, 1", launchOf(80, 128)), "");
  EXPECT_NE(errorOf("sm_80", ".maxntid 16, 8, 1", launchOf(80, 160)).find("at most 128 threads, got 160"),
            std::string::npos);
  EXPECT_NE(errorOf("sm_80", ".reqntid 128, 1, 1", launchOf(80, 64)).find("wants blocks of 128 threads"),
            std::string::npos);
  EXPECT_EQ(errorOf("sm_80", ".maxnreg 128", launchOf(80, 512)), "");
  EXPECT_NE(errorOf("sm_80", ".maxnreg 128", launchOf(80, 544)).find("69632 registers a block"), std::string::npos);
}

}  // namespace
}  // namespace weft
