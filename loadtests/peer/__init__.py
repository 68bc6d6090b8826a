"""CTranslate2 behind this project's API: what a careful team would build from a library and a dynamic batcher."""
