// Options that the commands of models share.
#pragma once

#include <cstdint>
#include <string>

#include <torch/types.h>
#include <CLI/CLI.hpp>

#include "models/launch.h"

namespace weft::cli {

/// Longer is no file of settings.
constexpr size_t configLimit = 1 << 20;

/// --data and --data-limit.
void addText(CLI::App *command, std::string &path, uint64_t &limit);
/// The text that is meant where --data is `given`, or empty.
std::string dataPath(const std::string &given);
/// --checkpoint.
void addCheckpoint(CLI::App *command, std::string &place);
void addDevice(CLI::App *command, std::string &device);
/// Threads, signals and the device, before anything is computed. Of "cuda" each process of a machine has a GPU of its
/// own.
torch::Device prepare(const std::string &device, const Launch &launch = {});

}  // namespace weft::cli
