cmake_minimum_required(VERSION 3.25)
# Fails when a test of the binary is in none of the filters ctest runs.
execute_process(COMMAND ${BINARY} --gtest_list_tests OUTPUT_VARIABLE all)
execute_process(COMMAND ${BINARY} --gtest_list_tests --gtest_filter=${FILTERS} OUTPUT_VARIABLE run)
if(NOT all STREQUAL run OR all STREQUAL "")
  message(FATAL_ERROR "some tests are in no ctest suite; extend tests/CMakeLists.txt")
endif()
