cmake_minimum_required(VERSION 3.25)
# Writes the file TESTS, which ctest includes: one test a suite of BINARY, so that none is left out. A suite is one
# process: its cases share the kernels that are in memory. ENVIRONMENT goes to all, FAKE_DRIVER's folder to those that
# need a driver without a GPU.
execute_process(COMMAND ${BINARY} --gtest_list_tests OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "\n[A-Za-z0-9_/]+\\." suites "\n${listed}")
if(NOT suites)
  message(FATAL_ERROR "${BINARY} lists no tests")
endif()
set(tests "")
foreach(suite ${suites})
  string(REGEX REPLACE "\n|\\.$" "" suite ${suite})
  get_filename_component(name ${suite} NAME)  # Library/Numerics: Numerics
  set(environment "${ENVIRONMENT}")
  if(suite MATCHES "^(Cuda|DefaultSchedules)$")
    list(APPEND environment "LD_LIBRARY_PATH=${FAKE_DRIVER}")
  endif()
  # The longest begin first; the first of them works on all cores.
  set(long "")
  if(name STREQUAL "Ptxas")
    set(long " COST 2000 PROCESSORS 2")
  elseif(name MATCHES "^(GpuNumerics|Numerics|Selection|OddInputs|Also)$")
    set(long " COST 1000")
  endif()
  string(APPEND tests "add_test([=[unit.${name}]=] [=[${BINARY}]=] [=[--gtest_filter=${suite}.*]=] --gtest_brief=1)\n"
                      "set_tests_properties([=[unit.${name}]=] PROPERTIES TIMEOUT 2400${long} ENVIRONMENT [=[${environment}]=])\n")
endforeach()
file(WRITE ${TESTS} "${tests}")
