# proa_library / proa_program / proa_test: one line per target, the same warnings everywhere.
include_guard()
add_library(proa_options INTERFACE)
target_include_directories(proa_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_options(proa_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wold-style-cast
                       $<$<BOOL:${PROA_WERROR}>:-Werror>)
if(PROA_SANITIZE)
  # GCC 12 reports std::regex as maybe-uninitialized under the sanitizers (GCC bug 105562).
  target_compile_options(proa_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(proa_options INTERFACE -fsanitize=address,undefined)
endif()
if(PROA_FUZZ)  # everything a fuzz target calls tells it where it went
  target_compile_options(proa_options INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
                         -fno-omit-frame-pointer)
  target_link_options(proa_options INTERFACE -fsanitize=address,undefined)
endif()
find_package(Threads REQUIRED)

# TOGETHER, in what follows: files that include Asio, JSON or CLI11 compile together, up to eight at a time, since most of their
# time goes into what these headers instantiate. A name in an unnamed namespace is then the target's, not the file's.
# tests/check-tidy (without --together) compiles what ships file by file: none of its includes is missing.
set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)

# proa_library(name [TOGETHER] SOURCES a.cpp b.cpp [LINK libs...])
function(proa_library name)
  cmake_parse_arguments(A "TOGETHER" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  set_target_properties(${name} PROPERTIES UNITY_BUILD ${A_TOGETHER})
  target_link_libraries(${name} PUBLIC proa_options ${A_LINK})
endfunction()

# proa_program(name [TOGETHER] SOURCES ... LINK ...)
function(proa_program name)
  cmake_parse_arguments(A "TOGETHER" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  set_target_properties(${name} PROPERTIES UNITY_BUILD ${A_TOGETHER})
  target_link_libraries(${name} PRIVATE proa_options ${A_LINK})
  # Symbols are bound at the start, not at their first use: that may be while a guest stands still.
  target_link_options(${name} PRIVATE -Wl,-z,relro -Wl,-z,now)
endfunction()

# What ./run test builds under the sanitizers: the tests and what they need. The rest of the host build is the aarch64 build's
# code again.
add_custom_target(unit-tests)

# proa_computes(name...): under the sanitizers nothing is optimized, since most of the code waits (and half of its compilation
# would be the optimizing of Asio's templates). What computes for minutes then, is.
function(proa_computes)
  foreach(name ${ARGN})
    if(PROA_SANITIZE AND TARGET ${name})
      target_compile_options(${name} PRIVATE -O1)
    endif()
  endforeach()
endfunction()

# proa_test(name [TOGETHER] SOURCES ... LINK ...): GoogleTest, host build only, ctest label "unit".
function(proa_test name)
  if(PROA_TARGET_AARCH64)
    return()
  endif()
  cmake_parse_arguments(A "TOGETHER" "" "SOURCES;LINK" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${name} ${A_SOURCES})
  set_target_properties(${name} PROPERTIES UNITY_BUILD ${A_TOGETHER})
  target_link_libraries(${name} PRIVATE proa_options ${A_LINK} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  add_dependencies(unit-tests ${name})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()
