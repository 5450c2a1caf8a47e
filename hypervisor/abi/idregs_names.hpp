// Names for what a CheckPolicy command answers: the register by its 64-bit word in CpuPolicy, the field by its lowest
// bit (Arm ARM D19.2). User space only (std::string).
#pragma once
#include <string>

namespace proa::abi {

inline std::string feature_name(unsigned word, unsigned shift, bool whole) {
    static const char* const registers[] = {
        "version",          "MIDR_EL1",         "CTR_EL0",          "DCZID_EL0",        "CNTFRQ_EL0",
        "ID_AA64PFR0_EL1",  "ID_AA64PFR1_EL1",  "ID_AA64ZFR0_EL1",  "ID_AA64SMFR0_EL1", "ID_AA64DFR0_EL1",
        "ID_AA64DFR1_EL1",  "ID_AA64ISAR0_EL1", "ID_AA64ISAR1_EL1", "ID_AA64ISAR2_EL1", "ID_AA64MMFR0_EL1",
        "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1"};
    struct Field {
        unsigned word, shift;
        const char* name;
    };
    static constexpr Field fields[] = {
        {5, 16, "FP"},       {5, 20, "AdvSIMD"}, {5, 24, "GIC"},      {5, 48, "DIT"},      {5, 56, "CSV2"},
        {5, 60, "CSV3"},     {6, 0, "BT"},       {6, 4, "SSBS"},      {11, 4, "AES"},      {11, 8, "SHA1"},
        {11, 12, "SHA2"},    {11, 16, "CRC32"},  {11, 20, "Atomic"},  {11, 28, "RDM"},     {11, 32, "SHA3"},
        {11, 36, "SM3"},     {11, 40, "SM4"},    {11, 44, "DP"},      {11, 48, "FHM"},     {11, 52, "TS"},
        {11, 56, "TLB"},     {11, 60, "RNDR"},   {12, 0, "DPB"},      {12, 4, "APA"},      {12, 8, "API"},
        {12, 12, "JSCVT"},   {12, 16, "FCMA"},   {12, 20, "LRCPC"},   {12, 24, "GPA"},     {12, 28, "GPI"},
        {12, 32, "FRINTTS"}, {12, 36, "SB"},     {12, 40, "SPECRES"}, {12, 44, "BF16"},    {12, 48, "DGH"},
        {12, 52, "I8MM"},    {14, 0, "PARange"}, {14, 4, "ASIDBits"}, {14, 20, "TGran16"}, {14, 24, "TGran64"},
        {14, 28, "TGran4"},  {15, 0, "HAFDBS"},  {15, 12, "HPDS"},    {15, 20, "PAN"},     {16, 0, "CnP"},
        {16, 4, "UAO"},      {16, 32, "AT"}};
    std::string s =
        word < sizeof(registers) / sizeof(*registers) ? registers[word] : "register " + std::to_string(word);
    if (whole) return s;
    for (const Field& f : fields)
        if (f.word == word && f.shift == shift) return s + "." + f.name;
    return s + " bits " + std::to_string(shift + 3) + ":" + std::to_string(shift);
}

}  // namespace proa::abi
