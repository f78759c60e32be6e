// The subcommands of `weft`; each adds itself to the command line and says what to run.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace weft::cli {

/// Set by the subcommand the user chose; gives the exit code.
using Action = std::function<int()>;

void addBench(CLI::App &app, Action &action);
void addReport(CLI::App &app, Action &action);
void addCheck(CLI::App &app, Action &action);
void addCompile(CLI::App &app, Action &action);
void addData(CLI::App &app, Action &action);
void addDecodeCost(CLI::App &app, Action &action);
void addTrain(CLI::App &app, Action &action);
void addEval(CLI::App &app, Action &action);
void addExport(CLI::App &app, Action &action);
void addRun(CLI::App &app, Action &action);
void addSample(CLI::App &app, Action &action);
void addSweep(CLI::App &app, Action &action);
void addTune(CLI::App &app, Action &action);
void addVariants(CLI::App &app, Action &action);

}  // namespace weft::cli
